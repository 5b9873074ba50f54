package config

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/fcgid/fcgid/internal/address"
	"github.com/fcgid/fcgid/internal/users"
)

// autoControl is the value of admin.control that has ControlPath choose.
const autoControl = "auto"

// The modes of the files of the admin server's socket and of the control socket.
const (
	AdminMode   fs.FileMode = 0o660
	ControlMode fs.FileMode = 0o600
)

// ControlPath is where the daemon that reads a file has its control socket; "" is
// nowhere. With "auto" it depends on the file's name and the environment alone, so that
// a command finds the daemon of a file that cannot be read:
//
//   - RUNTIME_DIRECTORY/control.sock, under a unit of systemd's that has such a folder;
//   - /run/fcgid/control.sock for /etc/fcgid/fcgid.yaml, /run/fcgid-NAME/control.sock
//     for /etc/fcgid/NAME.yaml: the folders of fcgid.service and of fcgid@NAME.service;
//   - in [PrivateFolder] for any other file.
func (a *Admin) ControlPath(file string) string {
	return a.ControlPathOf(os.Geteuid(), file)
}

// ControlPathOf is ControlPath of a daemon that is a user.
func (a *Admin) ControlPathOf(uid int, file string) string {
	if a.Control == autoControl {
		return autoControlPath(uid, file)
	}
	return strings.TrimPrefix(a.Control, "unix:")
}

// IsControlAuto reports whether nobody has named the place of the control socket.
func (a *Admin) IsControlAuto() bool { return a.Control == autoControl }

func autoControlPath(uid int, file string) string {
	const name = "control.sock"
	if folder := RuntimeFolder(); folder != "" {
		return filepath.Join(folder, name)
	}
	if whole, err := filepath.Abs(file); err == nil {
		file = whole
	}
	if base, ok := strings.CutSuffix(filepath.Base(file), ".yaml"); ok && filepath.Dir(file) == "/etc/fcgid" {
		if base == "fcgid" {
			return "/run/fcgid/" + name
		}
		return "/run/fcgid-" + base + "/" + name
	}
	sum := sha256.Sum256([]byte(file))
	return filepath.Join(PrivateFolderOf(uid), fmt.Sprintf("%x.sock", sum[:8]))
}

// RuntimeFolder is the first folder for sockets that systemd has made for the unit, see
// systemd.exec(5), or "".
func RuntimeFolder() string {
	first, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	if !filepath.IsAbs(first) {
		return ""
	}
	return first
}

// PrivateFolder is where the control sockets of this user are that have no other place.
func PrivateFolder() string { return PrivateFolderOf(os.Geteuid()) }

// PrivateFolderOf is that of a user.
func PrivateFolderOf(uid int) string {
	return filepath.Join(os.TempDir(), "fcgid-"+strconv.Itoa(uid))
}

// FindControl is where to look for the control socket of the daemon that reads a file,
// whatever else is wrong in that: FCGID_ADMIN_CONTROL wins over the file, and a file
// that says nothing of it, or is none, means auto. "" is that it is turned off.
func FindControl(file string) string {
	a := Admin{Control: autoControl}
	written := writtenOf(file)
	if value, ok := os.LookupEnv(variable("admin.control")); ok {
		a.Control = value
	} else if written.Admin.Control != nil {
		a.Control = *written.Admin.Control
	}
	if parsed, err := address.Parse(a.Control); a.Control != "" && (err != nil || parsed.Kind != address.Unix) {
		a.Control = autoControl
	}
	uid := os.Geteuid()
	if u, err := users.Find(written.User); uid == 0 && err == nil {
		uid = int(u.UID) // root, who asks, has started that one's daemon
	}
	return a.ControlPathOf(uid, file)
}

// A written is what has to do with the control socket.
type written struct {
	User  string
	Admin struct{ Control *string }
}

// writtenOf is what a file says, if it is YAML so far.
func writtenOf(file string) (w written) {
	data, err := readFile(file)
	if err == nil && yaml.Unmarshal(data, &w) != nil {
		return written{}
	}
	return w
}

// MostAtOnce is the largest number of requests that a pool may be told to do at once, or
// of workers that it may have.
func MostAtOnce(p *Pool) int {
	if p.Worker != nil {
		return maxWorkers
	}
	return maxCount
}
