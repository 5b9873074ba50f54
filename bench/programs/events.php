<?php
// Writes 20 events of 26 bytes, one each 50 ms.
header('Content-Type: text/event-stream');
while (ob_get_level()) {
	ob_end_clean();
}
for ($i = 0; $i < 20; $i++) {
	if ($i) {
		usleep(50000);
	}
	printf("data: event %012d\n\n", $i);
	flush();
}
