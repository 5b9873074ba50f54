<?php
// Works on though its client leaves: the output that finds that out comes long before
// the work is done.
ignore_user_abort(true);
while (ob_get_level()) {
	ob_end_flush();
}
$in = fopen(getenv('GATE') . '/in', 'w');
$go = fopen(getenv('GATE') . '/go', 'r');
stream_set_read_buffer($go, 0);
fwrite($in, getmypid() . "\n");
fread($go, 1);
while (!connection_aborted()) {
	echo 'x';
	flush();
	usleep(1000);
}
usleep(1500000);
file_put_contents(getenv('GATE') . '/done', md5(file_get_contents('php://input')));
