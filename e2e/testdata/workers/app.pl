# A FastCGI program that does what app.c does, as far as the tests need it.
use strict;
use warnings;
use FCGI;

my %env;
my $count = 0;
my $request = FCGI::Request(\*STDIN, \*STDOUT, \*STDERR, \%env);
while ($request->Accept() >= 0) {
	$count++;
	my $query = $env{QUERY_STRING} // '';
	if ($query eq 'gate') {
		open(my $in, '>', "$ENV{GATE}/in") or die;
		open(my $go, '<', "$ENV{GATE}/go") or die;
		syswrite($in, "$$\n");
		sysread($go, my $line, 1);
	}
	print STDERR "oh dear\n" if $query eq 'complain';
	print "Content-Type: text/plain\r\n\r\n$$ $count ", $ENV{GEN} // '-', "\n";
	next if $query ne 'echo';
	print "$env{CONTENT_LENGTH} ";
	while (read(STDIN, my $part, 65536)) { print $part }
}
