# As public-inbox.cgi, which stands in Debian's cgi-bin, for servers other than CGI.
use strict;
use warnings;
use Plack::Builder;
use PublicInbox::WWW;

my $www = PublicInbox::WWW->new;
builder {
	enable 'Head';
	sub { $www->call(@_) };
};
