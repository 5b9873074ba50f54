<?php
header('Content-Type: text/plain');
header('Content-Length: 6');
echo "hello\n";
