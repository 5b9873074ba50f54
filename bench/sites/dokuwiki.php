<?php
$conf['title'] = 'Ends and Means';
$conf['savedir'] = '{dir}/dokuwiki/data';
$conf['useacl'] = 0;
$conf['updatecheck'] = 0;
