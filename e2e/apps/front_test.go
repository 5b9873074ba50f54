//go:build apps

package apps

import (
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// frontController tells all that it is told of where it is.
const frontController = `<?php
header('Content-Type: text/plain');
foreach (['SCRIPT_FILENAME', 'SCRIPT_NAME', 'PATH_INFO', 'PHP_SELF', 'REQUEST_URI', 'QUERY_STRING', 'DOCUMENT_ROOT', 'REQUEST_METHOD'] as $name)
	echo $name, ' ', var_export($_SERVER[$name] ?? null, true), "\n";
echo 'file ', __FILE__, "\n", 'folder ', getcwd(), "\n", 'GET ', json_encode($_GET), "\n";
`

// frontPaths are pages of such an application, and files that are not to be run.
var frontPaths = []string{
	"/", "/index.php", "/index.php?a=b&c[]=d", "/index.php/", "/index.php/users/7", "/index.php/users/a%20b/c%2Fd?x=%20", "/index.php//twice",
	"/users", "/users/7/edit?tab=1", "/users/a%20b", "/users/%C3%A4", "/users//7", "/r/uploads/photo.jpg/more",
	"/uploads/photo.jpg", "/uploads/photo.jpg/x.php", "/uploads/photo.jpg/index.php", "/uploads/../index.php",
	"/admin/", "/admin/index.php", "/admin/index.php/deep", "/nothing.php", "/nothing.php/info", "/index.php.bak", "/style.css",
}

// An application whose one script gets all paths, as CodeIgniter's and Symfony's do,
// is told the same as by php-fpm; and a file that was uploaded is never run.
func TestFrontController(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.dir + "/www"
	harness.Write(t, root+"/index.php", frontController)
	harness.Write(t, root+"/admin/index.php", frontController)
	harness.Write(t, root+"/style.css", "body {}\n")
	harness.Write(t, root+"/uploads/photo.jpg", "<?php echo 'the photo has ', 'been run';\n")
	w.give(root)
	w.serve(w.phpPools(root))
	w.fpm()
	const rules = "RewriteCond %{REQUEST_FILENAME} !-f\nRewriteCond %{REQUEST_FILENAME} !-d\n"
	servers := w.phpServers(root, "index index.php;\nlocation / {\n    try_files $uri $uri/ /index.php$is_args$args;\n}\n",
		rules+"RewriteRule . index.php [L]\n", rules+"RewriteRule ^(.*)$ index.php/$1 [L]\n")
	for _, s := range servers {
		for _, backend := range backends[:2] {
			t.Run(s.name+" "+backend, func(t *testing.T) {
				b := newBrowser(t, s.urls[backend])
				b.same(s.urls["fpm"], nil, frontPaths...)
			})
		}
	}
}
