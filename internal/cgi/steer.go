package cgi

import "strings"

// A family is a kind of variables that can have a program run other code than
// its own: directly, by a configuration file of their choice, or by telling it
// whom to trust. A web server hands on what its clients sent as HTTP_* only, but
// a request on a socket need not come from a web server.
type family struct {
	of    string
	names []string // one that ends with * begins others
	but   []string // of these, the ones that do no harm
}

// families is the list of what is kept from a process's environment. What names
// a program's own configuration and can come from the web server's alone
// arrives: GITWEB_CONFIG, CGIT_CONFIG, GITOLITE_HTTP_HOME, MS_MAPFILE,
// NAGIOS_CGI_CONFIG. So do ENV, which only a shell at a terminal reads, and PATH.
// docs/cgi.md has the list in a table that a test compares.
var families = []family{
	{of: "the loader and the C library", names: []string{
		"LD_*", "GLIBC_TUNABLES", "GCONV_PATH", "GETCONF_DIR", "LOCPATH", "NLSPATH", "TEXTDOMAINDIR", "MALLOC_*",
		"HOSTALIASES", "LOCALDOMAIN", "NIS_PATH", "RESOLV_*", "RES_OPTIONS", "TZDIR", "NSS_*",
		"TERMCAP", "TERMINFO*", "TERMPATH"}},
	{of: "where files are looked for and left", names: []string{"HOME", "XDG_*", "TMPDIR", "TMP", "TEMP", "TMPPREFIX"}},
	{of: "shells", names: []string{
		"SHELL", "SHELLOPTS", "BASHOPTS", "BASH_*", "IFS", "CDPATH", "PS4", "GLOBIGNORE", "PROMPT_COMMAND", "INPUTRC", "FCEDIT", "HISTFILE",
		"FPATH", "ZDOTDIR", "NULLCMD", "READNULLCMD", "KSHRC", "PSMODULEPATH", "PSModulePath"}},
	{of: "Perl", names: []string{"PERL5*", "PERLLIB", "PERLIO*", "PERL_*", "DBI_AUTOPROXY", "DBI_PROFILE", "DBI_PUREPERL", "DBI_TRACE", "PLACK_SERVER"}},
	{of: "Python", names: []string{"PYTHON*", "PYENV_*", "PIP_*"},
		but: []string{"PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PYTHONIOENCODING", "PYTHONUNBUFFERED", "PYTHONUTF8"}},
	{of: "Ruby", names: []string{"RUBY*", "GEM_*", "BUNDLE_*", "BUNDLER_*", "IRBRC"}},
	{of: "JavaScript", names: []string{"NODE_*", "NPM_*", "npm_*", "DENO_*", "BUN_*", "TS_NODE_*"}, but: []string{"NODE_ENV"}},
	{of: "PHP", names: []string{"PHPRC", "PHP_INI_SCAN_DIR", "PHP_PEAR_*", "XDEBUG_*", "COMPOSER*"}},
	{of: "Java and its kin", names: []string{"JAVA_*", "JDK_*", "_JAVA_*", "JRE_HOME", "JAVACMD", "CLASSPATH", "CATALINA_*"}},
	{of: ".NET", names: []string{"DOTNET_*", "CORECLR_*", "COR_*", "COMPlus_*", "MONO_*"}, but: []string{"DOTNET_ENVIRONMENT"}},
	{of: "Lua, Tcl, awk, R, Octave", names: []string{"LUA_*", "TCL*", "TK_LIBRARY", "ITCL_LIBRARY", "AWKPATH", "AWKLIBPATH", "R_*", "OCTAVE_*"}},
	{of: "Erlang, Julia, OCaml, Haskell, Scheme, Go", names: []string{
		"ERL_*", "ELIXIR_*", "MIX_*", "JULIA_*", "CAML*", "OCAML*", "GHC*", "GUILE_*", "SCHEME_LIBRARY_PATH", "PLT*", "SBCL_HOME", "GODEBUG", "GOFLAGS", "GOROOT"},
		but: []string{"MIX_ENV"}},
	{of: "git and gitolite", names: []string{"GIT_*", "GL_*"},
		but: []string{"GIT_PROJECT_ROOT", "GIT_HTTP_EXPORT_ALL", "GIT_HTTP_MAX_REQUEST_BUFFER", "GIT_PROTOCOL"}},
	{of: "other version control", names: []string{"HG*", "SVN_*", "CVS*", "BZR*", "BRZ*", "FOSSIL_*", "DARCS_*"}, but: []string{"HGENCODING", "HGENCODINGMODE", "HGPLAIN", "HGPLAINEXCEPT"}},
	{of: "editors, pagers, browsers, mail", names: []string{
		"EDITOR", "VISUAL", "PAGER", "MANPAGER", "LESS*", "MORE", "LV", "BROWSER", "SENDMAIL", "MAILER", "MAILRC", "MAILCAPS", "MAILCHECK", "MAIL_CONFIG",
		"VIM*", "EXINIT", "GVIMINIT", "EMACS*"}},
	{of: "tools that scripts start", names: []string{
		"MAKEFLAGS", "MAKEFILES", "MFLAGS", "GNUMAKEFLAGS", "GCC_EXEC_PREFIX", "COMPILER_PATH", "PKG_CONFIG*", "TAR_OPTIONS", "TAPE", "GREP_OPTIONS", "RIPGREP_CONFIG_PATH",
		"RSYNC_*", "SSH_*", "GNUPGHOME", "GPG_*", "SYSTEMD_*", "DBUS_*", "LISTEN_*", "NOTIFY_SOCKET", "WATCHDOG_*",
		"DOCKER_*", "KUBECONFIG", "ANSIBLE_*", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "ASPELL_CONF", "FIT_SCRIPT"}},
	{of: "maps", names: []string{"GDAL_DRIVER_PATH", "GDAL_PYTHON_*", "GDAL_VRT_*", "GDAL_CONFIG_FILE", "OGR_DRIVER_PATH", "QGIS_PLUGINPATH", "QGIS_PREFIX_PATH", "GISBASE", "GISRC", "GRASS_*"}},
	{of: "TeX and plots", names: []string{
		"TEXMF*", "TEXINPUTS*", "TEXFORMATS*", "TEXFONTS*", "TEXPOOL*", "TEXPSHEADERS*", "MKTEX*", "KPATHSEA*", "KPSE_*", "LUAINPUTS*", "CLUAINPUTS*", "MPINPUTS*", "MFINPUTS*", "BIBINPUTS*", "BSTINPUTS*", "DVIPS*",
		"shell_escape*", "openin_any*", "openout_any*", "GNUPLOT_*", "GVBINDIR"}},
	{of: "pictures, sound, documents", names: []string{
		"MAGICK_*", "GS_*", "GST_*", "POVINI", "FFREPORT", "FREI0R_PATH", "LADSPA_PATH", "LV2_PATH", "URE_*", "UNO_PATH",
		"GTK_*", "GTK2_*", "GTK3_*", "GIO_*", "GDK_PIXBUF_*", "QT_*", "QML*"}},
	{of: "databases and directories", names: []string{
		"MYSQL_HOME", "MARIADB_HOME", "MARIADB_PLUGIN_DIR", "LIBMYSQL_*", "PSQLRC", "PSQL_*", "PGSERVICEFILE", "PGSYSCONFDIR", "ORACLE_HOME", "FIREBIRD",
		"ODBCINI", "ODBCINSTINI", "ODBCSYSINI", "LDAPCONF", "LDAPRC", "SASL_PATH", "SASL_CONF_PATH", "KRB5_*"}},
	{of: "whom to trust and by what way to connect", names: []string{
		"OPENSSL_*", "SSLKEYLOGFILE", "SSL_CERT_FILE", "SSL_CERT_DIR", "GNUTLS_*", "P11_KIT_*", "CURL_*", "REQUESTS_CA_BUNDLE", "WGETRC", "SYSTEM_WGETRC", "NETRC",
		"HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"}},
}

// An exact tells whether a name steers, and prefixes do of those that begin so,
// by their first letter: most names are in neither.
var exact, prefixes = func() (exact map[string]bool, prefixes [256][]string) {
	exact = make(map[string]bool)
	for _, f := range families {
		for _, name := range f.names {
			if prefix, ok := strings.CutSuffix(name, "*"); ok {
				prefixes[prefix[0]] = append(prefixes[prefix[0]], prefix)
			} else {
				exact[name] = true
			}
		}
		for _, name := range f.but {
			exact[name] = false
		}
	}
	return exact, prefixes
}()

// steers reports whether a variable of that name is in one of the families.
func steers(name string) bool {
	if strings.HasPrefix(name, "HTTP_") { // the most
		return false
	}
	if does, known := exact[name]; known {
		return does
	}
	if len(name) <= len("https_proxy") && exact[strings.ToLower(name)] && strings.EqualFold(name[max(0, len(name)-len("_proxy")):], "_proxy") {
		return true // Python and others take these in letters of any case
	}
	for _, prefix := range prefixes[name[0]] {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
