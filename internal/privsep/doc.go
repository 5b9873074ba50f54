// Package privsep is what two processes say to each other when fcgid was started as root and
// is to run as somebody else: the spawner, which is root and small, and the daemon, which
// serves clients and may do nothing that they may not.
//
//	daemon                        spawner
//	reload                  ─▶           reads the file anew, by a process of its own
//	                        ◀─    the bundle
//	commit or abort         ─▶           that generation counts from now on, or never did
//	listen                  ─▶           makes a socket that the configuration names, or removes its file
//	resolve, start, signal  ─▶
//	                        ◀─    exited
//	upgrade                 ─▶           starts the program anew, as another spawner
//
// The daemon asks and the spawner answers; it believes nothing that the daemon says. A message
// that is none ends the session, and with it the daemon.
package privsep
