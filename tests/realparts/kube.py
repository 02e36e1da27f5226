"""A real API server on a real etcd, with identities that a test gives rights to. No kubelet, no controllers."""

import contextlib
import functools
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import requests
import trustme
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.realparts.parts import ROOT, find, gateway_api_crds
from tests.realparts.server import Server, free_port, http, wait_until

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

_APPLY = {"fieldManager": "tests", "force": "true"}
_CALL_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Identity:
    """Whom the API server sees behind a token."""

    user: str
    groups: tuple[str, ...] = ()


def service_account(namespace: str, name: str) -> Identity:
    """The identity that a pod with this service account has, so that manifests' own role bindings reach it."""
    return Identity(
        f"system:serviceaccount:{namespace}:{name}",
        ("system:serviceaccounts", f"system:serviceaccounts:{namespace}"),
    )


IDENTITIES: Mapping[str, Identity] = MappingProxyType(
    {
        "admin": Identity("admin", ("system:masters",)),
        "controller": service_account("auto-advance", "auto-advance"),
        "observer": Identity("observer"),
        "person": Identity("person"),
    }
)


class ApiError(Exception):
    """The API server refused a call; `code` is the HTTP status, `body` the Status object it sent."""

    def __init__(self, method: str, path: str, answer: requests.Response) -> None:
        super().__init__(f"{method} {path}: {answer.status_code}: {answer.text[:600]}")
        self.code = answer.status_code
        with contextlib.suppress(ValueError):
            self.body: Any = answer.json()


class Etcd(Server):
    """The API server's store; it does not wait for the disk, since nobody needs the data tomorrow."""

    name = "etcd"

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        super().__init__(folder, port=port)
        self._peer_port = free_port()
        self._http = http()

    def command(self) -> list[str]:
        """A cluster of one member."""
        peer = f"http://127.0.0.1:{self._peer_port}"
        return [
            str(find("etcd")),
            f"--data-dir={self.folder / 'data'}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        ]

    def is_ready(self) -> bool:
        """Whether it has a leader and serves."""
        return self._http.get(f"{self.url}/health", timeout=1).json().get("health") in ("true", True)


class KubeApiserver(Server):
    """An API server with its own etcd, certificates and tokens; `with KubeApiserver(folder) as kube: ...`.

    stop() and kill9() end the API server alone; `etcd` can be hurt by itself. Each identity (admin, controller,
    observer, person) has a token and nothing else: admin may do everything, the others what grant() gives them.
    """

    name = "kube-apiserver"
    ready_within_s = 180.0

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        identities: Mapping[str, Identity] = IDENTITIES,
        arguments: Sequence[str] = (),
    ) -> None:
        super().__init__(folder, port=port)
        self.etcd = Etcd(folder / "etcd")
        self.identities = dict(identities)
        self._tokens = {name: secrets.token_hex(16) for name in identities}
        self._arguments = tuple(arguments)
        self._http = http()
        self._write_secrets()

    @property
    def url(self) -> str:
        """The base URL, https."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The certificate that signed the server's."""
        return self.folder / "ca.pem"

    def token(self, identity: str) -> str:
        """The bearer token of an identity."""
        return self._tokens[identity]

    def command(self) -> list[str]:
        """Role-based rights, tokens from a file, no service accounts in pods since there are no pods."""
        return [
            str(find("kube-apiserver")),
            f"--etcd-servers={self.etcd.url}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={self.folder / 'certs'}",
            f"--tls-cert-file={self.folder / 'tls.pem'}",
            f"--tls-private-key-file={self.folder / 'tls-key.pem'}",
            f"--service-account-key-file={self.folder / 'sa-key.pem'}",
            f"--service-account-signing-key-file={self.folder / 'sa-key.pem'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
            *self._arguments,
        ]

    def is_ready(self) -> bool:
        """Whether /readyz says so, the built-in roles included."""
        answer = self._http.get(
            f"{self.url}/readyz",
            timeout=2,
            verify=str(self.ca_file),
            headers={"Authorization": f"Bearer {self._tokens['admin']}"},
        )
        return answer.status_code == 200

    def launch(self) -> None:
        """Start etcd, wait for it, then start the API server."""
        self.command()  # a missing part is told before anything runs
        self.etcd.start()
        super().launch()

    def close(self) -> None:
        """End both processes."""
        self.stop()
        self.etcd.stop()
        self._http.close()

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def kubeconfig(self, identity: str, *, namespace: str = "default") -> Path:
        """A kubeconfig file for an identity, with one context of the identity's name."""
        path = self.folder / f"kubeconfig-{identity}-{namespace}.json"
        context = {"cluster": "tests", "user": identity, "namespace": namespace}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": identity,
            "clusters": [
                {"name": "tests", "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)}}
            ],
            "users": [{"name": identity, "user": {"token": self.token(identity)}}],
            "contexts": [{"name": identity, "context": context}],
        }
        fresh = path.with_suffix(f".{secrets.token_hex(4)}")
        fresh.write_text(json.dumps(document))
        fresh.rename(path)  # a daemon beside may be reading it
        return path

    def client(self, identity: str = "admin") -> "ApiClient":
        """The official client, as an identity; the caller closes it."""
        from kubernetes.config import new_client_from_config  # a quarter of a second that few tests need

        client: ApiClient = new_client_from_config(config_file=str(self.kubeconfig(identity)))  # type: ignore[no-untyped-call]
        return client

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        identity: str = "admin",
        content_type: str = "application/json",
        **query: str,
    ) -> Any:
        """One call in plain JSON, such as `call("GET", "/api/v1/namespaces")`; independent of the code under test.

        Raises ApiError for 4xx and 5xx, requests.RequestException while the server is down.
        """
        answer = self._http.request(
            method,
            f"{self.url}{path}",
            params=query,
            data=None if body is None else json.dumps(body),
            headers={"Authorization": f"Bearer {self.token(identity)}", "Content-Type": content_type},
            verify=str(self.ca_file),
            timeout=_CALL_TIMEOUT_S,
        )
        if not answer.ok:
            raise ApiError(method, path, answer)
        return answer.json()

    def watch(self, path: str, *, identity: str = "observer", seconds: int = 300, **query: str) -> Iterator[Any]:
        """The events of a watch, `{"type": ..., "object": ...}`, until the server ends it after some seconds."""
        with http() as session:
            answer = session.get(
                f"{self.url}{path}",
                params={"watch": "true", "timeoutSeconds": str(seconds), "allowWatchBookmarks": "true", **query},
                headers={"Authorization": f"Bearer {self.token(identity)}"},
                verify=str(self.ca_file),
                stream=True,
                timeout=(_CALL_TIMEOUT_S, seconds + _CALL_TIMEOUT_S),
            )
            if not answer.ok:
                raise ApiError("WATCH", path, answer)
            for line in answer.iter_lines(chunk_size=1):
                if line:
                    yield json.loads(line)

    def apply(
        self, documents: Iterable[Mapping[str, Any]] | Path, *, namespace: str = "", identity: str = "admin"
    ) -> None:
        """Server-side apply with strict validation: documents, a YAML file, or a folder of them, in their order.

        `namespace` is for namespaced objects that name none. Raises ApiError; a misspelt field is an error.
        """
        if isinstance(documents, Path):
            files = sorted(documents.glob("*.yaml")) if documents.is_dir() else [documents]
            documents = [
                document for file in files for document in yaml.load_all(file.read_bytes(), _Loader) if document
            ]
        for document in documents:
            if document["kind"] == "List":
                self.apply(document["items"], namespace=namespace, identity=identity)
                continue
            path = self.path_of(document, namespace)
            self.call(
                "PATCH", path, document, identity=identity, content_type="application/apply-patch+yaml",
                fieldValidation="Strict", **_APPLY,
            )  # fmt: skip

    def path_of(self, document: Mapping[str, Any], namespace: str = "") -> str:
        """The API path of one object, from its apiVersion, kind and metadata; the server knows the plural."""
        version, kind = document["apiVersion"], document["kind"]
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        for resource in self.call("GET", base)["resources"]:
            if resource["kind"] == kind and "/" not in resource["name"]:
                metadata = document["metadata"]
                inside = f"/namespaces/{metadata.get('namespace') or namespace or 'default'}"
                return f"{base}{inside if resource['namespaced'] else ''}/{resource['name']}/{metadata['name']}"
        raise LookupError(f"{kind}: the API server serves no such kind in {version}; apply its definition first")

    def install_crds(self, folder: Path | None = None) -> None:
        """The Gateway API's standard CRDs and the project's own (deploy/crd), or those of one folder; then serve them.

        Raises PartMissing where the Gateway API's were never obtained.
        """
        for source in [gateway_api_crds(), ROOT / "deploy" / "crd"] if folder is None else [folder]:
            documents = [
                document
                for file in sorted(source.glob("*.yaml"))
                for document in yaml.load_all(file.read_bytes(), _Loader)
                if document and document["kind"] == "CustomResourceDefinition"
            ]
            self.apply(documents)
            for document in documents:
                name = document["metadata"]["name"]
                wait_until(functools.partial(self._is_served, name), deadline_s=60, what=f"CRD {name} to be served")

    def grant(self, identity: str, rules: Sequence[Mapping[str, Any]], *, namespace: str = "") -> None:
        """Give an identity a role with these rules, in one namespace or, without one, in the whole cluster."""
        kind = "Role" if namespace else "ClusterRole"
        name = f"{identity}-{secrets.token_hex(4)}"
        group = "rbac.authorization.k8s.io"
        self.apply(
            [
                {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": name}, "rules": list(rules)},
                {
                    "apiVersion": f"{group}/v1",
                    "kind": f"{kind}Binding",
                    "metadata": {"name": name},
                    "roleRef": {"apiGroup": group, "kind": kind, "name": name},
                    "subjects": [{"apiGroup": group, "kind": "User", "name": self.identities[identity].user}],
                },
            ],
            namespace=namespace,
        )

    def create_namespace(self, prefix: str = "t") -> str:
        """A namespace of a new name; there is no controller that would empty it, see delete_routes_and_launches()."""
        answer = self.call("POST", "/api/v1/namespaces", {"metadata": {"generateName": f"{prefix}-"}})
        return str(answer["metadata"]["name"])

    def delete_routes_and_launches(self, namespace: str) -> None:
        """Empty a namespace of what a controller of all namespaces would go on working on."""
        for group in ("gateway.networking.k8s.io/v1", "autoadvance.dev/v1alpha1"):
            with contextlib.suppress(ApiError):
                for resource in self.call("GET", f"/apis/{group}")["resources"]:
                    if resource["namespaced"] and "/" not in resource["name"]:
                        self.call("DELETE", f"/apis/{group}/namespaces/{namespace}/{resource['name']}")

    def _is_served(self, crd: str) -> bool:
        document = self.call("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd}")
        conditions = {c["type"]: c["status"] for c in document.get("status", {}).get("conditions") or []}
        if conditions.get("NamesAccepted") == "False":
            raise LookupError(f"CRD {crd}: its names are taken: {document['status']['conditions']}")
        if conditions.get("Established") != "True":
            return False
        # established is said a moment before it is served
        plural, group = document["spec"]["names"]["plural"], document["spec"]["group"]
        for version in document["spec"]["versions"]:
            if version["served"]:
                try:
                    self.call("GET", f"/apis/{group}/{version['name']}/{plural}")
                except ApiError:
                    return False
        return True

    def _write_secrets(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        leaf = authority.issue_cert("127.0.0.1", "localhost")
        leaf.cert_chain_pems[0].write_to_path(self.folder / "tls.pem")
        leaf.private_key_pem.write_to_path(self.folder / "tls-key.pem")
        signing = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        (self.folder / "sa-key.pem").write_bytes(signing)
        lines = []
        for name, identity in self.identities.items():
            groups = f',"{",".join(identity.groups)}"' if identity.groups else ""
            lines.append(f"{self._tokens[name]},{identity.user},{name}{groups}\n")
        (self.folder / "tokens.csv").write_text("".join(lines))


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one reads the big CRDs eight times as fast
