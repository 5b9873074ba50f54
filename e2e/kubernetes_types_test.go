//go:build e2e

package e2e

// What deploy/kubernetes uses of Kubernetes' types. A field that is not here is an error, so
// that a misspelt one is.
type (
	kubeMeta struct {
		Name                string
		Labels, Annotations map[string]string
	}
	kubeHead struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   kubeMeta
	}
	kubeConfigMap struct {
		kubeHead `yaml:",inline"`
		Data     map[string]string
	}
	kubePort struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
		Port          int
		TargetPort    string `yaml:"targetPort"`
	}
	kubeService struct {
		kubeHead `yaml:",inline"`
		Spec     struct {
			Selector map[string]string
			Ports    []kubePort
		}
	}
	kubeProbe struct {
		HTTPGet          struct{ Path, Port string } `yaml:"httpGet"`
		PeriodSeconds    int                         `yaml:"periodSeconds"`
		TimeoutSeconds   int                         `yaml:"timeoutSeconds"`
		FailureThreshold int                         `yaml:"failureThreshold"`
	}
	kubeContainer struct {
		Name, Image    string
		Command        []string
		Ports          []kubePort
		ReadinessProbe kubeProbe `yaml:"readinessProbe"`
		LivenessProbe  kubeProbe `yaml:"livenessProbe"`
		Lifecycle      struct {
			PreStop struct{ Exec struct{ Command []string } } `yaml:"preStop"`
		}
		SecurityContext struct {
			AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
			Capabilities             struct{ Drop []string }
		} `yaml:"securityContext"`
		Resources    struct{ Requests, Limits map[string]string }
		VolumeMounts []struct {
			Name      string
			MountPath string `yaml:"mountPath"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
	}
	kubePod struct {
		AutomountServiceAccountToken  bool  `yaml:"automountServiceAccountToken"`
		TerminationGracePeriodSeconds int64 `yaml:"terminationGracePeriodSeconds"`
		SecurityContext               struct {
			RunAsNonRoot   bool                  `yaml:"runAsNonRoot"`
			SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
			IDs            map[string]int        `yaml:",inline"` // runAsUser, runAsGroup, fsGroup
		} `yaml:"securityContext"`
		Containers []kubeContainer
		Volumes    []struct {
			Name      string
			ConfigMap struct{ Name string } `yaml:"configMap"`
			EmptyDir  *struct {
				Medium    string
				SizeLimit string `yaml:"sizeLimit"`
			} `yaml:"emptyDir"`
		}
	}
	kubeDeployment struct {
		kubeHead `yaml:",inline"`
		Spec     struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			}
			Strategy struct {
				RollingUpdate map[string]int `yaml:"rollingUpdate"`
			}
			Template struct {
				Metadata kubeMeta
				Spec     kubePod
			}
		}
	}
	kubeScaler struct {
		kubeHead `yaml:",inline"`
		Spec     struct {
			ScaleTargetRef struct {
				APIVersion string `yaml:"apiVersion"`
				Kind, Name string
			} `yaml:"scaleTargetRef"`
			MinReplicas int `yaml:"minReplicas"`
			MaxReplicas int `yaml:"maxReplicas"`
			Metrics     []struct {
				Type string
				Pods struct {
					Metric struct {
						Name     string
						Selector struct {
							MatchLabels map[string]string `yaml:"matchLabels"`
						}
					}
					Target struct {
						Type         string
						AverageValue string `yaml:"averageValue"`
					}
				}
			}
			Behavior struct {
				ScaleDown map[string]int `yaml:"scaleDown"`
			}
		}
	}
)
