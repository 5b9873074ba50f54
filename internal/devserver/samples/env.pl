#!/usr/bin/env perl
# What a CGI program knows: its environment.
use strict;
use warnings;

print "Content-Type: text/plain\r\n\r\n";
print "$_=$ENV{$_}\n" for sort keys %ENV;
