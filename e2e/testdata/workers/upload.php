<?php
$file = $_FILES['file'];
echo $_POST['name'], ' ', $file['name'], ' ', $file['error'], ' ', $file['size'], ' ', hash_file('sha256', $file['tmp_name']);
