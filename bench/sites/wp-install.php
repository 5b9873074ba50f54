<?php
// Does what WordPress' installer does, for the site in whose folder it lies.
$_SERVER += ['HTTP_HOST' => 'bench', 'REQUEST_METHOD' => 'GET', 'REQUEST_URI' => '/', 'SERVER_PROTOCOL' => 'HTTP/1.1'];
mysqli_query(mysqli_connect('localhost', 'root', '', '', 0, '{dir}/mariadb.sock'), 'CREATE DATABASE wordpress');
define('WP_INSTALLING', true);
// It would send a mail.
function wp_new_blog_notification() {}
require __DIR__ . '/wp-load.php';
require ABSPATH . 'wp-admin/includes/upgrade.php';
wp_install('Ends and Means', 'admin', 'admin@example.org', false, '', 'correct horse');
