//! The manifests are what Kubernetes understands, they agree with each other, and the program does what they say of it:
//! it is started with their arguments, and asked what they ask.
//!
//! `TRIPTYCH` is the program's path. `RENDERED` names files that kustomize has rendered, which are looked at as well.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Container, PodSpec, Probe, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned};
use serde_json::Value;

/// From when a pod's end is decided until no node sends it new clients: seconds. Measured in clusters, it is one or two; a
/// load balancer outside of them takes longer.
const PROPAGATION: u64 = 5;
/// What the kubelet has to have left for killing nobody who ends by himself.
const MARGIN: u64 = 5;
const PATIENCE: Duration = Duration::from_secs(20);

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every document of a file.
fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let documents = serde_yaml_ng::Deserializer::from_str(&text);
    documents.map(|document| Value::deserialize(document).expect("YAML")).collect()
}

/// The manifests as they are in the base, and then as kustomize has rendered them.
fn sets() -> Vec<(String, Vec<Value>)> {
    let base = here().join("base");
    let names = documents(&base.join("kustomization.yaml"))[0]["resources"].clone();
    let names: Vec<String> = serde_json::from_value(names).expect("a list of files");
    let mut sets =
        vec![("base".to_owned(), names.iter().flat_map(|name| documents(&base.join(name))).collect())];
    for path in env::var("RENDERED").unwrap_or_default().split_whitespace() {
        sets.push((path.to_owned(), documents(Path::new(path))));
    }
    sets
}

/// As its type, with nothing that the type doesn't know: whatever is misspelt or misplaced is gone when it is written again.
fn typed<T: DeserializeOwned + Serialize>(document: &Value) -> T {
    let typed: T =
        serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{error}: {document:#}"));
    let again = serde_json::to_value(&typed).expect("written");
    same("", document, &again);
    typed
}

fn same(path: &str, written: &Value, understood: &Value) {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            for (name, value) in written {
                let path = format!("{path}.{name}");
                let other =
                    understood.get(name).unwrap_or_else(|| panic!("{path} is nothing that Kubernetes knows"));
                same(&path, value, other);
            }
        }
        (Value::Array(written), Value::Array(understood)) => {
            assert_eq!(written.len(), understood.len(), "{path}");
            for (index, (value, other)) in written.iter().zip(understood).enumerate() {
                same(&format!("{path}[{index}]"), value, other);
            }
        }
        (written, understood) => assert_eq!(written, understood, "{path}"),
    }
}

struct Manifests {
    deployment: Deployment,
    service: Service,
    autoscaler: HorizontalPodAutoscaler,
    budget: PodDisruptionBudget,
}

impl Manifests {
    fn of(documents: &[Value]) -> Manifests {
        let of_kind = |kind: &str| -> &Value {
            let found: Vec<_> = documents.iter().filter(|document| document["kind"] == kind).collect();
            assert_eq!(found.len(), 1, "{kind}");
            found[0]
        };
        assert_eq!(documents.len(), 4, "a kind that nobody looks at");
        Manifests {
            deployment: typed(of_kind("Deployment")),
            service: typed(of_kind("Service")),
            autoscaler: typed(of_kind("HorizontalPodAutoscaler")),
            budget: typed(of_kind("PodDisruptionBudget")),
        }
    }

    fn pod(&self) -> &PodSpec {
        self.deployment.spec.as_ref().expect("a spec").template.spec.as_ref().expect("a pod")
    }

    fn container(&self) -> &Container {
        let [container] = &self.pod().containers[..] else { panic!("one container") };
        container
    }

    fn arguments(&self) -> Vec<String> {
        self.container().args.clone().expect("arguments")
    }

    /// The value of a flag: it must be there.
    fn flag(&self, name: &str) -> String {
        let flag = format!("--{name}=");
        let arguments = self.arguments();
        let value = arguments.iter().find_map(|argument| argument.strip_prefix(&flag));
        value.unwrap_or_else(|| panic!("{flag} isn't given")).to_owned()
    }

    fn seconds(&self, name: &str) -> u64 {
        let value = self.flag(name);
        value
            .strip_suffix('s')
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("{name}: {value}"))
    }

    /// The number of the container's port of this name.
    fn port(&self, name: &str) -> u16 {
        let ports = self.container().ports.as_ref().expect("ports");
        let port = ports.iter().find(|port| port.name.as_deref() == Some(name));
        port.unwrap_or_else(|| panic!("no port {name}")).container_port.try_into().expect("a port")
    }

    fn probes(&self) -> [(&'static str, &Probe); 3] {
        let container = self.container();
        [
            ("startup", container.startup_probe.as_ref().expect("a startup probe")),
            ("readiness", container.readiness_probe.as_ref().expect("a readiness probe")),
            ("liveness", container.liveness_probe.as_ref().expect("a liveness probe")),
        ]
    }
}

fn each(look: impl Fn(&Manifests)) {
    for (name, documents) in sets() {
        println!("{name}");
        look(&Manifests::of(&documents));
    }
}

fn port_of(address: &str) -> u16 {
    address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address with a port")
}

#[test]
fn kubernetes_understands_them() {
    each(|_| {});
}

#[test]
fn what_is_misspelt_is_found() {
    let (_, documents) = sets().swap_remove(0);
    let mut deployment =
        documents.into_iter().find(|document| document["kind"] == "Deployment").expect("there");
    let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
    container["livenessprobe"] = container["livenessProbe"].take();
    assert!(std::panic::catch_unwind(|| typed::<Deployment>(&deployment)).is_err());
}

#[test]
fn labels_and_names_agree() {
    each(|manifests| {
        let deployment = manifests.deployment.spec.as_ref().expect("a spec");
        let labels =
            deployment.template.metadata.as_ref().and_then(|data| data.labels.clone()).expect("labels");
        let budget = manifests.budget.spec.as_ref().expect("a spec").selector.as_ref().expect("a selector");
        let spread = &manifests.pod().topology_spread_constraints.as_ref().expect("constraints")[0];
        let selectors: [&BTreeMap<String, String>; 4] = [
            deployment.selector.match_labels.as_ref().expect("labels"),
            manifests.service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).expect("labels"),
            budget.match_labels.as_ref().expect("labels"),
            spread
                .label_selector
                .as_ref()
                .and_then(|selector| selector.match_labels.as_ref())
                .expect("labels"),
        ];
        for selector in selectors {
            assert!(
                !selector.is_empty() && selector.iter().all(|(name, value)| labels.get(name) == Some(value))
            );
        }
        let target = &manifests.autoscaler.spec.as_ref().expect("a spec").scale_target_ref;
        assert_eq!(Some(&target.name), manifests.deployment.metadata.name.as_ref());
        assert_eq!((target.kind.as_str(), target.api_version.as_deref()), ("Deployment", Some("apps/v1")));
    });
}

/// Of several, one may be missing at any time without anybody noticing, and two parties don't set their number.
#[test]
fn there_are_several() {
    each(|manifests| {
        let autoscaler = manifests.autoscaler.spec.as_ref().expect("a spec");
        let least = autoscaler.min_replicas.expect("a least number");
        assert!(least >= 3 && autoscaler.max_replicas > least);
        assert_eq!(manifests.deployment.spec.as_ref().expect("a spec").replicas, None);
        let budget = manifests.budget.spec.as_ref().expect("a spec");
        assert_eq!(budget.max_unavailable, Some(IntOrString::Int(1)));
        // A share of what isn't requested is no share.
        let resources = manifests.container().resources.as_ref().expect("resources");
        assert!(resources.requests.as_ref().expect("requests").contains_key("cpu"));
        assert_eq!(manifests.flag("etag"), "replica");
    });
}

#[test]
fn ports_agree() {
    each(|manifests| {
        assert_eq!(port_of(&manifests.flag("listen")), manifests.port("http"));
        assert_eq!(port_of(&manifests.flag("admin")), manifests.port("admin"));
        let ports = manifests.service.spec.as_ref().and_then(|spec| spec.ports.clone()).expect("ports");
        // The admin listener is for nobody who comes through the service.
        assert_eq!(ports.len(), 1);
        assert_eq!(ports[0].target_port, Some(IntOrString::String("http".to_owned())));
        let template = &manifests.deployment.spec.as_ref().expect("a spec").template;
        let annotations =
            template.metadata.as_ref().and_then(|data| data.annotations.clone()).expect("annotations");
        assert_eq!(annotations["prometheus.io/port"], manifests.port("admin").to_string());
        for (name, probe) in manifests.probes() {
            let get = probe.http_get.as_ref().expect("a GET");
            assert_eq!(get.port, IntOrString::String("admin".to_owned()), "{name}");
        }
    });
}

#[test]
fn times_agree() {
    each(|manifests| {
        let (delay, grace) = (manifests.seconds("drain-delay"), manifests.seconds("grace"));
        let patience = manifests.pod().termination_grace_period_seconds.expect("a grace period");
        assert!(u64::try_from(patience).expect("seconds") >= delay + grace + MARGIN);
        assert!(delay >= PROPAGATION);
        for (name, probe) in manifests.probes() {
            // Each a question of its own.
            assert!(probe.timeout_seconds.unwrap_or(1) <= probe.period_seconds.expect("a period"), "{name}");
        }
        let [(_, startup), ..] = manifests.probes();
        // So long may a server take to start (the keeper's START_MAX).
        assert!(
            startup.period_seconds.expect("a period") * startup.failure_threshold.expect("a threshold") >= 60
        );
    });
}

#[test]
fn nothing_is_allowed_that_is_not_needed() {
    each(|manifests| {
        let pod = manifests.pod();
        assert_eq!(pod.automount_service_account_token, Some(false));
        let context = pod.security_context.as_ref().expect("a context");
        assert_eq!(context.run_as_non_root, Some(true));
        assert!(context.run_as_user.is_some_and(|user| user > 0));
        let profile = context.seccomp_profile.as_ref().expect("a profile");
        match profile.type_.as_str() {
            "RuntimeDefault" => {}
            "Localhost" => assert_eq!(profile.localhost_profile.as_deref(), Some("profiles/triptych.json")),
            other => panic!("{other}"),
        }
        let context = manifests.container().security_context.as_ref().expect("a context");
        assert_eq!(context.allow_privilege_escalation, Some(false));
        assert_eq!(context.read_only_root_filesystem, Some(true));
        let capabilities = context.capabilities.as_ref().expect("capabilities");
        assert_eq!((capabilities.drop.as_deref(), &capabilities.add), (Some(&["ALL".to_owned()][..]), &None));
        // Ports below 1024 would need one.
        assert!(manifests.port("http") >= 1024 && manifests.port("admin") >= 1024);
    });
}

// ---- the program

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// The status of what is answered, and the first line of the content.
fn ask(address: SocketAddr, target: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.to_owned();
    Some((status, answer.split_once("\r\n\r\n")?.1.lines().next().unwrap_or_default().to_owned()))
}

fn within(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A root as a volume of a ConfigMap is: files are links to a hidden folder, which is a link that is switched.
fn root() -> PathBuf {
    let root = env::temp_dir().join(format!("triptych-manifests-{}", std::process::id()));
    let _none = fs::remove_dir_all(&root);
    for (version, content) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir_all(root.join(version)).expect("made");
        fs::write(root.join(version).join("index.html"), content).expect("written");
    }
    std::os::unix::fs::symlink("..1", root.join("..data")).expect("linked");
    std::os::unix::fs::symlink("..data/index.html", root.join("index.html")).expect("linked");
    root
}

fn signal(process: &Running, name: &str) {
    let done = Command::new("kill").args(["-s", name, &process.0.id().to_string()]).status().expect("kill");
    assert!(done.success());
}

/// With the arguments of the manifests, but on ports and a folder of this machine.
#[test]
fn the_program_does_what_they_say() {
    let program = env::var_os("TRIPTYCH").expect("TRIPTYCH is the program's path");
    let manifests = Manifests::of(&sets().swap_remove(0).1);
    let free =
        || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let (http, admin) = (free(), free());
    let root = root();
    let arguments = manifests.arguments().into_iter().map(|argument| match argument.split_once('=') {
        Some(("--listen", _)) => format!("--listen={http}"),
        Some(("--admin", _)) => format!("--admin={admin}"),
        _ if argument == "/srv/www" => root.display().to_string(),
        _ => argument,
    });
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).stdin(Stdio::null());
    let mut running = Running(command.spawn().expect("started"));
    let mut log = BufReader::new(running.0.stdout.take().expect("a pipe")).lines();
    for (name, probe) in manifests.probes() {
        let path = probe.http_get.as_ref().and_then(|get| get.path.clone()).expect("a path");
        within(name, || ask(admin, &path).is_some_and(|(status, _)| status == "200"));
    }
    assert_eq!(ask(http, "/"), Some(("200".to_owned(), "one".to_owned())));
    let line: Value = serde_json::from_str(&log.next().expect("a line").expect("read")).expect("JSON");
    assert_eq!((&line["status"], &line["uri"]), (&Value::from(200), &Value::from("/")));
    // As the kubelet does it.
    std::os::unix::fs::symlink("..2", root.join("..next")).expect("linked");
    fs::rename(root.join("..next"), root.join("..data")).expect("switched");
    within("the new content", || ask(http, "/") == Some(("200".to_owned(), "two".to_owned())));
    // Before its end is known everywhere, clients still come.
    signal(&running, "TERM");
    within("readiness to end", || ask(admin, "/readyz").is_some_and(|(status, _)| status == "503"));
    assert_eq!(ask(http, "/").map(|(status, _)| status), Some("200".to_owned()));
    assert_eq!(ask(admin, "/healthz").map(|(status, _)| status), Some("200".to_owned()));
    // A second one waits for nothing.
    signal(&running, "TERM");
    within("the end", || running.0.try_wait().expect("waited").is_some());
    fs::remove_dir_all(root).expect("removed");
}
