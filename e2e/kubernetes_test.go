//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/fcgid/fcgid/e2e/harness"
)

// A deployment is what deploy/kubernetes has.
type deployment struct {
	config     kubeConfigMap
	service    kubeService
	deployment kubeDeployment
	scaler     kubeScaler
}

func (d *deployment) container() *kubeContainer {
	return &d.deployment.Spec.Template.Spec.Containers[0]
}

// readDeployment reads it, and each file of it is one that is known.
func readDeployment(t testing.TB) *deployment {
	t.Helper()
	d := new(deployment)
	objects := map[string]any{"configmap.yaml": &d.config, "service.yaml": &d.service, "deployment.yaml": &d.deployment, "hpa.yaml": &d.scaler}
	files, err := os.ReadDir(filepath.Join(harness.Root(t), "deploy/kubernetes"))
	if err != nil || len(files) != len(objects) {
		t.Fatalf("%v: %v", files, err)
	}
	for name, object := range objects {
		text, err := os.ReadFile(filepath.Join(harness.Root(t), "deploy/kubernetes", name))
		if err != nil {
			t.Fatal(err)
		}
		decoder := yaml.NewDecoder(bytes.NewReader(text))
		decoder.KnownFields(true)
		if err := decoder.Decode(object); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if len(d.deployment.Spec.Template.Spec.Containers) != 1 {
		t.Fatal("not one container")
	}
	return d
}

// The manifests fit one another, the configuration and the image.
func TestKubernetesManifests(t *testing.T) {
	t.Parallel()
	d := readDeployment(t)
	pod, c := &d.deployment.Spec.Template.Spec, d.container()
	labels := fmt.Sprint(d.deployment.Spec.Selector.MatchLabels)
	for what, got := range map[string]string{"the pods'": fmt.Sprint(d.deployment.Spec.Template.Metadata.Labels), "the Service's": fmt.Sprint(d.service.Spec.Selector)} {
		if got != labels {
			t.Errorf("%s labels are %s, not %s", what, got, labels)
		}
	}
	ref := d.scaler.Spec.ScaleTargetRef
	if ref.APIVersion != d.deployment.APIVersion || ref.Kind != d.deployment.Kind || ref.Name != d.deployment.Metadata.Name {
		t.Errorf("the autoscaler is for %+v", ref)
	}
	for i, want := range []string{"apps/v1 Deployment", "v1 Service", "v1 ConfigMap", "autoscaling/v2 HorizontalPodAutoscaler"} {
		head := []kubeHead{d.deployment.kubeHead, d.service.kubeHead, d.config.kubeHead, d.scaler.kubeHead}[i]
		if head.APIVersion+" "+head.Kind != want || head.Metadata.Name != "fcgid" {
			t.Errorf("%+v, want %s", head, want)
		}
	}
	ports := make(map[string]int)
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	config := d.config.Data["fcgid.yaml"]
	for name, listen := range map[string]string{"fastcgi": "address: tcp:0.0.0.0:%d\n", "admin": "listen: tcp:0.0.0.0:%d\n"} {
		if !strings.Contains(config, fmt.Sprintf(listen, ports[name])) {
			t.Errorf("nothing listens on the port %s, %d", name, ports[name])
		}
	}
	for _, probe := range []kubeProbe{c.ReadinessProbe, c.LivenessProbe} {
		if probe.HTTPGet.Port != "admin" {
			t.Errorf("a probe asks port %s", probe.HTTPGet.Port)
		}
	}
	if p := d.service.Spec.Ports[0]; p.TargetPort != "fastcgi" || p.Port != 9000 {
		t.Errorf("the Service has %+v", p)
	}
	if s := pod.SecurityContext; !s.RunAsNonRoot || s.IDs["runAsUser"] != 65534 || len(s.IDs) != 3 || !c.SecurityContext.ReadOnlyRootFilesystem || *c.SecurityContext.AllowPrivilegeEscalation {
		t.Errorf("the pod may too much: %+v, %+v", s, c.SecurityContext)
	}
	volumes := make(map[string]bool)
	for _, v := range pod.Volumes {
		volumes[v.Name] = (v.ConfigMap.Name == d.config.Metadata.Name) != (v.EmptyDir != nil)
	}
	for _, m := range c.VolumeMounts {
		if !volumes[m.Name] {
			t.Errorf("%s is no volume", m.Name)
		}
	}
	d.checkGrace(t)
}

// checkGrace looks whether a pod has as long for its end as that takes.
func (d *deployment) checkGrace(t *testing.T) {
	t.Helper()
	var stop struct {
		Shutdown string `yaml:"shutdown_timeout"`
	}
	if err := yaml.Unmarshal([]byte(d.config.Data["fcgid.yaml"]), &stop); err != nil {
		t.Fatal(err)
	}
	needs := 5 * time.Second // to start the command, and for what is ended by force
	args := append([]string{"--shutdown", stop.Shutdown}, d.container().Lifecycle.PreStop.Exec.Command...)
	found := 0
	for i := range args[:len(args)-1] {
		if slices.Contains([]string{"--shutdown", "--notice", "--timeout"}, args[i]) {
			took, err := time.ParseDuration(args[i+1])
			if err != nil {
				t.Fatal(err)
			}
			found, needs = found+1, needs+took
		}
	}
	if grace := time.Duration(d.deployment.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second; found != 3 || grace < needs || grace > needs+30*time.Second {
		t.Errorf("the pod has %v for its end, and needs %v (%d times)", grace, needs, found)
	}
}

// fcgid takes the configuration of the ConfigMap, and has all metrics by which pods are
// scaled, here and in docs/scaling.md.
func TestKubernetesConfig(t *testing.T) {
	t.Parallel()
	d := readDeployment(t)
	dir, config := folder(t), d.config.Data["fcgid.yaml"]
	if err := os.Mkdir(dir+"/www", 0o755); err != nil {
		t.Fatal(err)
	}
	config = strings.NewReplacer("/srv/www", dir+"/www", "0.0.0.0:9253", freeAddress(t), "0.0.0.0:9000", freeAddress(t)).Replace(config)
	write(t, dir+"/fcgid.yaml", config)
	if code, out, stderr := fcgid(t, dir, nil, "check", "fcgid.yaml"); code != 0 || strings.Count(out+stderr, "warning: ") > strings.Count(out+stderr, "warning: checked as root") {
		t.Fatalf("check: %d %s%s", code, out, stderr)
	}
	s := launch(t, dir, "- {name: www, listen: 'unix:"+dir+"/s', function: {}}\n")
	_, metrics := get(t, "http://"+s.admin+"/metrics")
	query := regexp.MustCompile(`fcgid_\w+`)
	var names []string
	for _, m := range d.scaler.Spec.Metrics {
		names = append(names, m.Pods.Metric.Name)
		if m.Type != "Pods" || m.Pods.Metric.Selector.MatchLabels["pool"] != "www" {
			t.Errorf("%+v", m)
		}
	}
	var adapter struct {
		Rules []struct {
			SeriesQuery string `yaml:"seriesQuery"`
		}
	}
	if err := yaml.Unmarshal([]byte(harness.Documented(t, "docs/scaling.md", "kubernetes-adapter")), &adapter); err != nil {
		t.Fatal(err)
	}
	series := regexp.MustCompile(`__name__=~"([^"]+)"`).FindStringSubmatch(adapter.Rules[0].SeriesQuery)[1]
	for _, name := range names {
		if !regexp.MustCompile("^(" + series + ")$").MatchString(name) {
			t.Errorf("the adapter's rule has no %s", name)
		}
	}
	var keda struct {
		Spec struct {
			Target   struct{ Name string } `yaml:"scaleTargetRef"`
			Triggers []struct{ Metadata map[string]string }
		}
	}
	if err := yaml.Unmarshal([]byte(harness.Documented(t, "docs/scaling.md", "kubernetes-keda")), &keda); err != nil || keda.Spec.Target.Name != d.deployment.Metadata.Name {
		t.Errorf("%+v, %v", keda, err)
	}
	names = append(names, query.FindAllString(keda.Spec.Triggers[0].Metadata["query"], -1)...)
	if len(names) != 4 {
		t.Errorf("metrics %q", names)
	}
	for _, name := range names {
		if !strings.Contains(metrics, "\n"+name+`{pool="www"} `) {
			t.Errorf("there is no metric %s of the pool", name)
		}
	}
	if apply := harness.Documented(t, "docs/scaling.md", "kubernetes-apply"); apply != "kubectl apply -f deploy/kubernetes/\n" {
		t.Errorf("the command is %q", apply)
	}
}

// A container is what the Deployment makes of the image: the files of the Dockerfile that
// nobody can write, the volumes, nobody's rights, and a network and processes of its own.
type container struct {
	*host
	root string
	p    *process
}

func (d *deployment) run(t testing.TB, network *host) *container {
	t.Helper()
	c := &container{host: newHost(t, "pod"), root: folder(t)}
	c.plugInto(network, "10.0.0.11/24")
	program, err := builtStock()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"COPY --from=build /fcgid /usr/bin/fcgid\n", "COPY --from=build /rootfs/ /\n", "mkdir -p /rootfs/tmp", "\nUSER 65534:65534\n"} {
		if text, err := os.ReadFile(filepath.Join(harness.Root(t), "Dockerfile")); err != nil || !strings.Contains(string(text), line) {
			t.Fatalf("the image has no %q: %v", line, err)
		}
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	script(t, c.root+"/usr/bin/fcgid", string(text))
	pools, _, _ := strings.Cut(d.config.Data["fcgid.yaml"], "    worker:")
	write(t, c.root+"/volumes/config/fcgid.yaml", pools+"    function: {}\n")
	mounts := "mount --bind $0 $0; mount -o remount,bind,ro $0; mount -t proc proc $0/proc; mount --rbind /dev $0/dev\n"
	for _, m := range d.container().VolumeMounts {
		if err := os.MkdirAll(c.root+m.MountPath, 0o755); err != nil {
			t.Fatal(err)
		}
		if m.ReadOnly {
			mounts += "mount --bind $0/volumes/" + m.Name + " $0" + m.MountPath + "\n"
		} else {
			mounts += "mount -t tmpfs -o mode=2777 volume $0" + m.MountPath + "\n"
		}
	}
	for _, dir := range []string{"proc", "dev"} {
		if err := os.Mkdir(c.root+"/"+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.p = start(t, c.command("unshare", append([]string{"--mount", "--pid", "--fork", "--kill-child=TERM",
		"sh", "-euc", mounts + `root=$0; exec chroot --userspec=65534:65534 "$root" "$@"`, c.root}, d.container().Command...)...))
	return c
}

// first is its first process, as others see that.
func (c *container) first() int {
	c.t.Helper()
	var all []int
	await(c.t, "the container's first process", func() bool {
		if c.p.Exited() {
			c.t.Fatalf("the container has ended: %v: %s", c.p.Err, c.p.out)
		}
		all = children(c.p.Process.Pid)
		return len(all) == 1
	})
	return all[0]
}

// exec is `kubectl exec`.
func (c *container) exec(command ...string) *exec.Cmd {
	return exec.Command(need(c.t, "nsenter"), append([]string{"--target", fmt.Sprint(c.first()), "--mount", "--net", "--pid",
		"chroot", "--userspec=65534:65534", c.root}, command...)...)
}

// probe is what a node is told, or "" if nobody answers.
func probe(network *host, p kubeProbe) string {
	out, _ := network.command("curl", "-s", "-m", "20", "-w", " %{http_code}", "http://10.0.0.11:9253"+p.HTTPGet.Path).Output()
	return strings.ReplaceAll(string(out), "\n", "")
}

// The Deployment's container serves with what it may, answers the probes, and is drained by
// preStop before TERM ends it.
func TestKubernetesPod(t *testing.T) {
	t.Parallel()
	needRoot(t)
	d := readDeployment(t)
	network := newHost(t, "node")
	network.makeSwitch("10.0.0.1/24")
	c := d.run(t, network)
	ready, live := d.container().ReadinessProbe, d.container().LivenessProbe
	await(t, "the pod to be ready", func() bool { c.first(); return probe(network, ready) == "ready 200" })
	if got := probe(network, live); got != "healthy 200" {
		t.Errorf("liveness: %q", got)
	}
	if out := run(t, network.command(binary, "request", "tcp:10.0.0.11:9000", "--script", "fcgid.ping")); !strings.Contains(out, "pong") {
		t.Errorf("it answers %q", out)
	}
	preStop := slices.Clone(d.container().Lifecycle.PreStop.Exec.Command)
	preStop[slices.Index(preStop, "--notice")+1] = "10m"
	notice := start(t, c.exec(preStop...))
	await(t, "the pod not to be ready", func() bool { return probe(network, ready) == "pool www is leaving (fcgid resume www) 503" })
	if got := probe(network, live); got != "healthy 200" {
		t.Errorf("liveness during the notice: %q", got)
	}
	preStop[slices.Index(preStop, "--notice")+1] = "1ms"
	if out := run(t, c.exec(preStop...)); !strings.Contains(out, "pool www takes no requests") {
		t.Errorf("preStop: %s", out)
	}
	if code := notice.exitCode(); code != 1 {
		t.Errorf("the notice: exit status %d", code)
	}
	syscall.Kill(c.first(), syscall.SIGTERM)
	if code := c.p.exitCode(); code != 0 {
		t.Errorf("exit status %d: %s", code, c.p.out)
	}
	for line := range strings.Lines(c.p.out.String()) {
		if strings.Contains(line, `"level":"error"`) || strings.Contains(line, "no control socket") {
			t.Error(line)
		}
	}
}
