//! The list of what is checked: for each finding its code, how bad it is, why it bites and
//! what to do.
//!
//! Invariant: a code keeps its meaning for ever; one that is retired is not used again.

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Traffic is lost, or the input is refused.
    Error,
    /// Something will not do what its author probably thinks.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// One word, as SARIF has it for its levels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its code.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, in one line.
    pub title: &'static str,
    /// Why it bites.
    pub why: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

macro_rules! rules {
    ($($name:ident = $code:literal, $severity:ident, $title:literal, $why:literal, $remedy:literal;)*) => {
        $(
            #[doc = $title]
            pub const $name: &Rule = &Rule {
                code: $code,
                severity: Severity::$severity,
                title: $title,
                why: $why,
                remedy: $remedy,
            };
        )*

        /// All rules, in the order of their codes.
        pub const ALL: &[&Rule] = &[$($name),*];
    };
}

rules! {
    REFUSED = "NFC-001", Error, "The input is refused",
        "the API server would refuse it too, or two objects contradict each other",
        "correct what is marked; nothing is compiled as long as it stands there";
    MISSPELT = "NFC-101", Warning, "A field is not known, but looks like one that is",
        "Kubernetes drops fields that it does not know, so the setting has no effect",
        "write the field that was meant";
    NO_CLUSTER_IP = "NFC-102", Warning, "A Service has no cluster IP",
        "the API server gives one when the Service is made; a manifest alone does not say which",
        "take the object from the cluster, with kubectl get service -o yaml";
    ORPHAN = "NFC-103", Warning, "An EndpointSlice belongs to a Service that is not there",
        "its endpoints get no traffic",
        "add the Service, or correct the label kubernetes.io/service-name";
    UNLABELLED = "NFC-104", Warning, "An EndpointSlice does not say whose it is",
        "kube-proxy goes by the label kubernetes.io/service-name and by nothing else",
        "add the label";
    UNMATCHED_PORT = "NFC-105", Error, "A slice has a port that its Service has not",
        "ports are matched by name and protocol; what matches nothing gets no traffic",
        "give both the same name and protocol";
    OLD_ENDPOINTS = "NFC-106", Warning, "A Service has Endpoints, but no EndpointSlice",
        "kube-proxy reads slices only; a cluster makes them from Endpoints, a manifest does not",
        "export the slices: kubectl get endpointslices -o yaml";
    USELESS_NODE_PORT = "NFC-107", Warning, "A node port on a Service that has none",
        "only types NodePort and LoadBalancer answer on node ports",
        "change the type, or remove the node port";
    SHADOWED = "NFC-108", Error, "Two Services answer at one address and port",
        "kube-proxy lets the order of its Service map decide which of them gets the traffic",
        "remove the address from one of the two";
    ODD_SLICE = "NFC-109", Warning, "Part of an EndpointSlice is not used",
        "kube-proxy takes the first address of an endpoint, ports with numbers, and no host names",
        "give every address an endpoint of its own, and every port a number";
    NODE_UNKNOWN = "NFC-110", Note, "Something about the node is not known",
        "what depends on it is left out of the rules or guessed",
        "add the Node object, or say it with --hostname-override, --node-ip or --cluster-cidr";
    PORT_WITHOUT_ENDPOINTS = "NFC-201", Error, "No slice has the port of a Service",
        "the Service has endpoints, but none under this port's name and protocol, so that its \
         clients are refused",
        "name the port in the slice as in the Service; in a Pod, name the container port";
    NOTHING_READY = "NFC-202", Warning, "No endpoint of a Service is ready",
        "all its clients are refused as long as that lasts",
        "see why the Pods are not ready; the readiness probe is the first suspect";
    NO_ENDPOINTS = "NFC-203", Warning, "A Service, or one of its cluster IPs, has no endpoints",
        "its clients are refused; a cluster IP sends to endpoints of its own family only",
        "compare the selector with the labels of the Pods; without a selector, write a slice";
    LOCAL_EXTERNAL = "NFC-204", Warning, "externalTrafficPolicy Local and no endpoint on this node",
        "traffic from outside that reaches this node is dropped in silence",
        "have the load balancer heed healthCheckNodePort, or run a Pod on every node that is asked";
    LOCAL_INTERNAL = "NFC-205", Warning, "internalTrafficPolicy Local and no endpoint on this node",
        "Pods of this node that use the Service are dropped in silence",
        "run a Pod of it on every node (a DaemonSet), or use the policy Cluster";
    OUTSIDE_CIDR = "NFC-206", Error, "A cluster IP lies outside of every ServiceCIDR",
        "the API server would not give it, and routes or firewalls that go by the block miss it",
        "take an address of the ServiceCIDR, or leave it to the API server";
    RANGES_UNUSED = "NFC-207", Warning, "loadBalancerSourceRanges that restrict nothing",
        "they bind load balancer IPs only; cluster IP, external IPs and node ports stay open to all",
        "restrict those with a NetworkPolicy or a firewall";
    RANGES_FAMILY = "NFC-208", Error, "loadBalancerSourceRanges lack a family of the Service",
        "a load balancer IP of that family is open to everybody: the ranges of the other family \
         do not bind it",
        "add a range of that family";
    HEADLESS_AFFINITY = "NFC-209", Warning, "sessionAffinity on a headless Service",
        "clients of a headless Service connect to Pods by themselves, and nobody keeps them to one",
        "remove it, or give the Service a cluster IP";
    DEPRECATED = "NFC-210", Warning, "A field or annotation that is out of use",
        "newer releases of Kubernetes ignore it, or will",
        "use what has taken its place";
    UDP_HEALTH_CHECK = "NFC-211", Note, "A UDP port behind a health check over TCP",
        "healthCheckNodePort answers over HTTP and tells whether a Pod runs here, not whether it \
         answers over UDP",
        "check that the load balancer can use a TCP check for a UDP port";
    NODE_PORT_RANGE = "NFC-212", Warning, "A node port outside of 30000 to 32767",
        "outside of the range of the API server's default it may collide with services of the \
         node, or be refused",
        "take one of the range, or check --service-node-port-range of the API server";
    HEALTH_CHECK_TAKEN = "NFC-213", Error, "healthCheckNodePort is a node port of another",
        "both want the same TCP port of the node, and only one gets it",
        "give one of the two another number";
    ODD_ENDPOINT = "NFC-214", Error, "An endpoint that packets cannot be sent to",
        "loopback, link-local and multicast addresses mean another machine on every node; the API \
         server refuses them",
        "use the Pod's own address";
    ENDPOINT_IS_CLUSTER_IP = "NFC-215", Warning, "An endpoint is a cluster IP",
        "the destination of a packet is rewritten once: it would arrive at no Pod",
        "list the Pods' addresses, or use a Service of type ExternalName";
    HALF_HINTED = "NFC-216", Warning, "Only some endpoints have topology hints",
        "kube-proxy heeds hints only when every ready endpoint has one, and spreads over all zones \
         otherwise",
        "leave hints to the EndpointSlice controller, or give them to all";
    TARGET_PORT = "NFC-217", Warning, "targetPort differs from the port in the slice",
        "kube-proxy uses the number in the slice; targetPort only tells the controller what to write",
        "correct the one that is wrong";
    EXTERNAL_IP = "NFC-218", Note, "externalIPs",
        "whoever may write Services can take over traffic for any address (CVE-2020-8554)",
        "use a Service of type LoadBalancer, or restrict who may set it (DenyServiceExternalIPs)";
}

/// The rule of this code.
#[must_use]
pub fn find(code: &str) -> Option<&'static Rule> {
    ALL.iter().find(|rule| rule.code == code).copied()
}
