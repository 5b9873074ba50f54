<?php
/*
Plugin Name: e2e
Description: Sends a mail, and works on when nobody waits any more.
*/

// ?e2e_mail=TO sends a mail as plugins do.
add_action('init', function () {
	if (isset($_GET['e2e_mail'])) {
		header('Content-Type: text/plain');
		echo wp_mail($_GET['e2e_mail'], 'From WordPress', "Hello,\n\nthis is a plugin.\n") ? 'sent' : 'not sent';
		exit;
	}
	// ?e2e_cron=NAME has WP-Cron run a job as soon as it can.
	if (isset($_GET['e2e_cron'])) {
		wp_schedule_single_event(time() - 1, 'e2e_job', [$_GET['e2e_cron']]);
		header('Content-Type: text/plain');
		echo 'planned';
		exit;
	}
});

// The job takes longer than whoever has started WP-Cron waits, and then says that it
// has run to its end.
add_action('e2e_job', function ($name) {
	file_put_contents(E2E_DIR . "/$name.begun", '');
	// What ends a program whose client has left gives it a second.
	$until = microtime(true) + 3;
	while (microtime(true) < $until) {
		usleep(20000);
	}
	echo 'something that nobody reads';
	flush();
	file_put_contents(E2E_DIR . "/$name.done", '');
});
