<?php
// Does what app.c does, as far as the tests need it. COUNT is how often the
// opcache has had this file.
header('Content-Type: text/plain');
$query = $_SERVER['QUERY_STRING'];
if ($query === 'gate') {
	$in = fopen(getenv('GATE') . '/in', 'w');
	$go = fopen(getenv('GATE') . '/go', 'r');
	stream_set_read_buffer($go, 0);
	fwrite($in, getmypid() . "\n");
	fread($go, 1);
}
if ($query === 'complain') {
	error_log('oh dear');
}
if ($query === 'job') { // which goes on when the request is answered
	exec('(echo $$ >>' . getenv('GATE') . '/jobs; exec sleep 1000) > /dev/null 2>&1 & echo $!', $job);
	echo 'job ', $job[0], "\n";
	exit;
}
if ($query === 'hang') {
	for (;;) {
		sleep(1);
	}
}
$status = function_exists('opcache_get_status') ? opcache_get_status() : false;
echo getmypid(), ' ', $status ? $status['scripts'][__FILE__]['hits'] ?? 0 : 0, ' ', getenv('GEN') ?: '-', "\n";
if ($query === 'echo') {
	echo $_SERVER['CONTENT_LENGTH'], ' ', file_get_contents('php://input');
}
