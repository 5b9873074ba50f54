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
		"LD_*", "GLIBC_TUNABLES", "GCONV_PATH", "GETCONF_DIR", "LOCPATH", "NLSPATH", "TEXTDOMAINDIR", "MALLOC_*", "HOSTALIASES", "LOCALDOMAIN",
		"NIS_PATH", "RESOLV_*", "RES_OPTIONS", "TZDIR", "NSS_*", "TERMCAP", "TERMINFO*", "TERMPATH", "LTDL_LIBRARY_PATH", "OMP_TOOL*", "ACC_PROFLIB",
		"GMON_OUT_PREFIX"}},
	{of: "where files are looked for and left", names: []string{
		"HOME", "XDG_*", "TMPDIR", "TMP", "TEMP", "TMPPREFIX", "SQLITE_TMPDIR", "GC_LOG_FILE"}},
	{of: "shells", names: []string{
		"SHELL", "SHELLOPTS", "BASHOPTS", "BASH_*", "IFS", "CDPATH", "PS4", "GLOBIGNORE", "PROMPT_COMMAND", "INPUTRC", "FCEDIT", "HISTFILE", "FPATH",
		"ZDOTDIR", "NULLCMD", "READNULLCMD", "KSHRC", "PSMODULEPATH", "PSModulePath", "YASH_LOADPATH", "fn_*", "fish_*"}},
	{of: "Perl", names: []string{
		"PERL5*", "PERLLIB", "PERLIO*", "PERL_*", "DBI_AUTOPROXY", "DBI_PROFILE", "DBI_PUREPERL", "DBI_TRACE", "PLACK_SERVER", "PAR_GLOBAL_*",
		"PAR_TMPDIR", "PLENV_*"}},
	{of: "Python", names: []string{
		"PYTHON*", "PYENV_*", "PIP_*", "JYTHON*", "NUMBA_*", "MPLCONFIGDIR", "MPLBACKEND", "MATPLOTLIBRC", "DOCUTILSCONFIG"},
		but: []string{"PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PYTHONIOENCODING", "PYTHONUNBUFFERED", "PYTHONUTF8"}},
	{of: "Ruby", names: []string{
		"RUBY*", "GEM_*", "BUNDLE_*", "BUNDLER_*", "IRBRC", "RBENV_*", "RVM_*", "rvm_*", "JRUBY_*", "BOOTSNAP_*"}},
	{of: "JavaScript", names: []string{
		"NODE_*", "NPM_*", "npm_*", "DENO_*", "BUN_*", "TS_NODE_*", "YARN_*", "NODENV_*", "NVM_*", "PUPPETEER_*", "PLAYWRIGHT_*", "CHROME_*"},
		but: []string{"NODE_ENV"}},
	{of: "PHP", names: []string{
		"PHPRC", "PHP_INI_SCAN_DIR", "PHP_PEAR_*", "XDEBUG_*", "COMPOSER*", "WP_CLI_*", "DRUSH_*", "SSLEAY_CONF"}},
	{of: "Java and its kin", names: []string{
		"JAVA_*", "JDK_*", "_JAVA_*", "JRE_HOME", "JAVACMD", "CLASSPATH", "CATALINA_*", "MAVEN_*", "ANT_HOME", "ANT_OPTS", "ANT_ARGS", "GRADLE_*"}},
	{of: ".NET", names: []string{
		"DOTNET_*", "CORECLR_*", "COR_*", "COMPlus_*", "MONO_*", "ASPNETCORE_HOSTINGSTARTUPASSEMBLIES", "NUGET_*", "MSBUILD*"},
		but: []string{"DOTNET_ENVIRONMENT"}},
	{of: "Lua, Tcl, awk, R, Octave and their kin", names: []string{
		"LUA_*", "TCL*", "TK_LIBRARY", "ITCL_LIBRARY", "AWKPATH", "AWKLIBPATH", "R_*", "OCTAVE_*", "LUAROCKS_*", "DOTDIR", "GAWK_*", "MAXIMA_*",
		"GPRC"}},
	{of: "other languages", names: []string{
		"ERL_*", "ELIXIR_*", "MIX_*", "JULIA_*", "CAML*", "OCAML*", "GHC*", "GUILE_*", "SCHEME_LIBRARY_PATH", "PLT*", "SBCL_HOME", "GODEBUG",
		"GOFLAGS", "GOROOT", "ESCRIPT_*", "OPAM*", "CABAL_*", "CHICKEN_*", "GAUCHE_*", "CHEZSCHEMELIB*", "GOENV", "GOPATH", "GOAUTH", "GOTOOLCHAIN",
		"CARGO_*", "RUSTC*", "RUSTUP_*", "RUSTFLAGS", "PLAN9", "SWI_HOME_DIR"},
		but: []string{"MIX_ENV"}},
	{of: "git and gitolite", names: []string{
		"GIT_*", "GL_*"},
		but: []string{"GIT_PROJECT_ROOT", "GIT_HTTP_EXPORT_ALL", "GIT_HTTP_MAX_REQUEST_BUFFER", "GIT_PROTOCOL"}},
	{of: "other version control", names: []string{
		"HG*", "SVN_*", "CVS*", "BZR*", "BRZ*", "FOSSIL_*", "DARCS_*", "P4*", "RCSINIT"},
		but: []string{"HGENCODING", "HGENCODINGMODE", "HGPLAIN", "HGPLAINEXCEPT"}},
	{of: "editors, pagers, browsers, mail", names: []string{
		"EDITOR", "VISUAL", "PAGER", "MANPAGER", "LESS*", "MORE", "LV", "BROWSER", "SENDMAIL", "MAILER", "MAILRC", "MAILCAPS", "MAILCHECK",
		"MAIL_CONFIG", "VIM*", "EXINIT", "GVIMINIT", "EMACS*", "MANPATH", "MANOPT", "MANROFFOPT", "MANROFFSEQ", "MANLESS", "GROFF_*", "GROPS_*",
		"LYNX_*", "lynx_cfg", "W3M_DIR", "NVIM_*", "QMAIL*", "NAIL_EXTRA_RC", "TEXEDIT"}},
	{of: "tools that scripts start", names: []string{
		"MAKEFLAGS", "MAKEFILES", "MFLAGS", "GNUMAKEFLAGS", "GCC_EXEC_PREFIX", "COMPILER_PATH", "PKG_CONFIG*", "TAR_OPTIONS", "TAPE", "GREP_OPTIONS",
		"RIPGREP_CONFIG_PATH", "RSYNC_*", "SSH_*", "GNUPGHOME", "GPG_*", "SYSTEMD_*", "DBUS_*", "LISTEN_*", "NOTIFY_SOCKET", "WATCHDOG_*", "DOCKER_*",
		"KUBECONFIG", "ANSIBLE_*", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "ASPELL_CONF", "FIT_SCRIPT", "CC", "CXX", "CPP", "CFLAGS",
		"CXXFLAGS", "CPPFLAGS", "LDFLAGS", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "OBJC_INCLUDE_PATH", "LIBRARY_PATH", "LPATH", "GCC_ROOT",
		"BINUTILS_ROOT", "DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES", "M4", "M4PATH", "BC_ENV_ARGS", "DC_ENV_ARGS", "ZIP", "ZIPOPT", "UNZIP",
		"UNZIPOPT", "ZIPINFO", "ZIPINFOOPT", "RSH", "SUDO_*", "SCREENRC", "SYSSCREENRC", "TMUX*", "GPGME_*", "RCLONE_*", "RESTIC_*", "BORG_*",
		"LFTP_*", "LIBSMB_PROG", "SMB_CONF_PATH", "SNMPCONFPATH", "SNMP_PERSISTENT_*", "MIBDIRS", "HIGHLIGHT_DATADIR", "A2PS_CONFIG", "MAGIC",
		"GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"}},
	{of: "maps and measurements", names: []string{
		"GDAL_DRIVER_PATH", "GDAL_PYTHON_*", "GDAL_VRT_*", "GDAL_CONFIG_FILE", "OGR_DRIVER_PATH", "QGIS_PLUGINPATH", "QGIS_PREFIX_PATH", "GISBASE",
		"GISRC", "GRASS_*", "GDAL_HTTP_PROXY", "CPL_LOG", "CPL_TMPDIR", "OGR_SQLITE_*", "HDF5_*", "PROJ_CURL_CA_BUNDLE",
		"PROJ_USER_WRITABLE_DIRECTORY", "QGIS_OPTIONS_PATH", "QGIS_CUSTOM_CONFIG_PATH", "GMT_CUSTOM_LIBS", "GMT_USERDIR", "GMT_SHAREDIR",
		"OTB_APPLICATION_PATH", "SAGA_MLB"},
		but: []string{"HDF5_USE_FILE_LOCKING"}},
	{of: "TeX and plots", names: []string{
		"TEXMF*", "TEXINPUTS*", "TEXFORMATS*", "TEXFONTS*", "TEXPOOL*", "TEXPSHEADERS*", "MKTEX*", "KPATHSEA*", "KPSE_*", "LUAINPUTS*", "CLUAINPUTS*",
		"MPINPUTS*", "MFINPUTS*", "BIBINPUTS*", "BSTINPUTS*", "DVIPS*", "shell_escape*", "openin_any*", "openout_any*", "GNUPLOT_*", "GVBINDIR",
		"LATEXMKRC*", "MPXCOMMAND", "ASYMPTOTE_*", "PLPLOT_*"}},
	{of: "pictures, sound, documents", names: []string{
		"MAGICK_*", "GS_*", "GST_*", "POVINI", "FFREPORT", "FREI0R_PATH", "LADSPA_PATH", "LV2_PATH", "URE_*", "UNO_PATH", "GTK_*", "GTK2_*", "GTK3_*",
		"GIO_*", "GDK_PIXBUF_*", "QT_*", "QML*", "VIPSHOME", "GEGL_PATH", "BABL_PATH", "GIMP2_*", "GIMP3_*", "IMLIB2_*", "LIBHEIF_PLUGIN_PATH",
		"ENCHANT_*", "PANGO_*", "GI_*", "GSETTINGS_*", "FONTCONFIG_*", "SDL_DYNAMIC_API", "SDL3_DYNAMIC_API", "ALSA_*", "PULSE_DLPATH",
		"PULSE_CONFIG*", "PULSE_CLIENTCONFIG", "PIPEWIRE_*", "SPA_PLUGIN_DIR", "VAMP_PATH", "LIBGL_*", "LIBVA_*", "VDPAU_*", "GBM_BACKENDS_PATH",
		"__EGL_*", "__GLX_*", "OCL_ICD_*", "OPENCL_*", "VK_ICD_FILENAMES", "VK_DRIVER_FILES", "VK_LAYER_PATH", "VK_ADD_*", "BLENDER_*", "INKSCAPE_*"}},
	{of: "databases and directories", names: []string{
		"MYSQL_HOME", "MARIADB_HOME", "MARIADB_PLUGIN_DIR", "LIBMYSQL_*", "PSQLRC", "PSQL_*", "PGSERVICEFILE", "PGSYSCONFDIR", "ORACLE_HOME",
		"FIREBIRD*", "ODBCINI", "ODBCINSTINI", "ODBCSYSINI", "LDAPCONF", "LDAPRC", "SASL_PATH", "SASL_CONF_PATH", "KRB5_*", "PGPASSFILE", "PGSSLCERT",
		"PGSSLKEY", "PGSSLROOTCERT", "PGSSLCRL*", "PGGSSLIB", "PGLOCALEDIR", "TNS_ADMIN", "SQLPATH", "ORACLE_PATH", "ODBCINSTUI", "FREETDS*",
		"TDSDUMP*", "LDAPTLS_*", "GSS_MECH_CONFIG", "GSS_USE_PROXY", "GSSPROXY_*", "PKCS11_*", "OPENSC_CONF"}},
	{of: "whom to trust and by what way to connect (`*_proxy` in letters of any case)", names: []string{
		"OPENSSL_*", "SSLKEYLOGFILE", "SSL_CERT_FILE", "SSL_CERT_DIR", "GNUTLS_*", "P11_KIT_*", "CURL_*", "REQUESTS_CA_BUNDLE", "QLOGDIR", "WGETRC",
		"SYSTEM_WGETRC", "NETRC", "WWW_http_GATEWAY", "WWW_https_GATEWAY", "WWW_ftp_GATEWAY", "http_proxy", "https_proxy", "ftp_proxy", "all_proxy",
		"no_proxy", "ws_proxy", "wss_proxy", "gopher_proxy", "socks_proxy", "socks5_proxy", "cgi_http_proxy"}},
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

// isCatalogue reports whether a variable names a language by the way to a file. What a
// program says is then from a catalogue of somebody else's, and so are the formats that
// it says it with.
func isCatalogue(name, value string) bool {
	return (name == "LANGUAGE" || name == "LANG" || strings.HasPrefix(name, "LC_")) && strings.IndexByte(value, '/') >= 0
}

// steers reports whether a variable of that name is in one of the families.
func steers(name string) bool {
	if strings.HasPrefix(name, "HTTP_") { // the most
		return false
	}
	if does, known := exact[name]; known {
		return does
	}
	if len(name) <= len("cgi_http_proxy") && strings.EqualFold(name[max(0, len(name)-len("_proxy")):], "_proxy") && exact[strings.ToLower(name)] {
		return true // Python and others take these in letters of any case
	}
	for _, prefix := range prefixes[name[0]] {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
