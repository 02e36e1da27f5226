import gzip
import json
import math
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from controller.adapters.prometheus import Prometheus, PrometheusSettings
from controller.errors import AdapterError, RefusedError, UnansweredError, UnusableError
from tests.adapters.scripted_server import (
    Asked,
    Reply,
    ScriptedServer,
    failure,
    gzipped_zeros,
    half,
    http,
    matrix,
    say,
)
from tests.realparts.prometheus import Prometheus as RealPrometheus
from tests.realparts.prometheus import config, promtool
from tests.realparts.server import free_port

SECRET = "tell-nobody-0451"
ENDLESS_S = 20.0
"""What lasts longer waits for an answer that never ends, however slow the machine is."""
VERSIONS = [pytest.param(version, marks=pytest.mark.real) for version in ("2", "3")]
T0 = 1_700_000_000
STORED = f"""\
# TYPE requests counter
{"".join(f'requests_total{{track="canary"}} {10 * i} {T0 + i}{chr(10)}' for i in range(60))}\
{"".join(f'requests_total{{track="stable"}} {90 * i} {T0 + i}{chr(10)}' for i in range(60))}\
# TYPE odd gauge
odd{{is="nan"}} NaN {T0}
odd{{is="inf"}} +Inf {T0}
odd{{is="small"}} 1.5e-09 {T0}
# EOF
"""


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


@pytest.fixture
def connect() -> Iterator[Callable[..., Prometheus]]:
    opened: list[Prometheus] = []

    def open_one(url: str, clock: Callable[[], float] = time.time, **settings: Any) -> Prometheus:
        # a busy machine is no fault; a test of time-outs sets its own
        patient = {"timeout": 30.0, "read_timeout": 30.0, "connect_timeout": 30.0}
        opened.append(Prometheus(PrometheusSettings(url=url, **{**patient, **settings}), clock=clock))
        return opened[-1]

    yield open_one
    for prometheus in opened:
        prometheus.close()


def ask(
    prometheus: Prometheus, expression: str = "up", seconds: float = 30.0, **span: float
) -> dict[str, dict[int, float]]:
    """The answer, by the text of its labels."""
    start, end, step = span.get("start", T0), span.get("end", T0 + 2), span.get("step", 1)
    answer = prometheus.query_range(expression, start, end, step, time.monotonic() + seconds)
    return {json.dumps(found.labels, sort_keys=True): dict(found.values) for found in answer.series}


# --- the contract of a healthy Prometheus: on 2.42, on 3.x, and on recorded bytes ---


def recorded(asked: Asked) -> Iterator[bytes]:
    """What 2.42 and 3.13 answered to the contract's questions, word for word."""
    form = asked.form
    result = {
        "nothing_here": "[]",
        "sum(requests_total)": '[{"metric":{},"values":[[1700000010,"1000"],[1700000012,"1200"]]}]',
        "requests_total": '[{"metric":{"__name__":"requests_total","track":"canary"},"values":[[1700000000.5,"0"],'
        '[1700000001.5,"10"]]},{"metric":{"__name__":"requests_total","track":"stable"},"values":[[1700000000.5,"0"],'
        '[1700000001.5,"90"]]}]',
        "odd": '[{"metric":{"__name__":"odd","is":"inf"},"values":[[1700000000,"+Inf"]]},{"metric":{"__name__":"odd",'
        '"is":"nan"},"values":[[1700000000,"NaN"]]},{"metric":{"__name__":"odd","is":"small"},"values":[[1700000000,'
        '"0.0000000015"]]}]',
    }.get(form["query"])
    if form["query"] == "sum(":
        yield http(
            '{"status":"error","errorType":"bad_data","error":"invalid parameter \\"query\\": 1:5: parse error: unclosed '
            'left parenthesis"}',
            status=400,
        )
    elif result is None:
        yield http(
            '{"status":"error","errorType":"execution","error":"found duplicate series for the match group {} on the right'
            ' hand-side of the operation"}',
            status=422,
        )
    else:
        yield http(f'{{"status":"success","data":{{"resultType":"matrix","result":{result}}}}}', date=time.time())


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocks")
    (folder / "stored.txt").write_text(STORED)
    tool = promtool()
    subprocess.run(
        [tool, "tsdb", "create-blocks-from", "openmetrics", folder / "stored.txt", folder / "data"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return folder / "data"


@pytest.fixture(scope="module", params=[*VERSIONS, "recorded"])
def healthy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    if request.param == "recorded":
        with ScriptedServer(recorded) as scripted:
            prometheus = Prometheus(PrometheusSettings(url=scripted.url))
            yield prometheus
            prometheus.close()
        return
    blocks = request.getfixturevalue("blocks")
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copytree(blocks, folder / "data")
    keep = ("--storage.tsdb.retention.time=90y",)  # what is stored lies in the past
    with RealPrometheus(folder, version=request.param, config=config(), prefix="/team/a", arguments=keep) as real:
        prometheus = Prometheus(PrometheusSettings(url=f"{real.url}/"))
        yield prometheus
        prometheus.close()


def test_no_series_is_an_empty_answer(healthy: Prometheus) -> None:
    assert ask(healthy, "nothing_here") == {}


def test_values_stand_at_the_instants_that_were_asked(healthy: Prometheus) -> None:
    found = ask(healthy, "sum(requests_total)", start=T0 + 10, end=T0 + 13, step=2)
    assert found == {"{}": {(T0 + 10) * 1000: 1000.0, (T0 + 12) * 1000: 1200.0}}


def test_instants_between_seconds_are_kept_to_the_millisecond(healthy: Prometheus) -> None:
    found = ask(healthy, "requests_total", start=T0 + 0.5, end=T0 + 1.5)
    assert found == {
        '{"__name__": "requests_total", "track": "canary"}': {T0 * 1000 + 500: 0.0, T0 * 1000 + 1500: 10.0},
        '{"__name__": "requests_total", "track": "stable"}': {T0 * 1000 + 500: 0.0, T0 * 1000 + 1500: 90.0},
    }


def test_nan_and_infinity_come_as_they_are(healthy: Prometheus) -> None:
    by_kind = {json.loads(labels)["is"]: values[T0 * 1000] for labels, values in ask(healthy, "odd", end=T0).items()}
    assert math.isnan(by_kind["nan"])
    assert by_kind["inf"] == math.inf
    assert by_kind["small"] == 1.5e-9


def test_a_query_that_cannot_be_parsed_is_refused_in_the_servers_words(healthy: Prometheus) -> None:
    with pytest.raises(
        RefusedError, match=r"Prometheus at 127\.0\.0\.1.* refused the query \(HTTP 400\): .*unclosed left"
    ):
        ask(healthy, "sum(")


def test_a_query_that_cannot_be_executed_is_refused_in_the_servers_words(healthy: Prometheus) -> None:
    with pytest.raises(RefusedError, match=r"\(HTTP 422\): .*duplicate series for the match group"):
        ask(healthy, "vector(1) * on () requests_total")


# --- what a real one does not answer ---

ONE = {"metric": {}, "values": [[T0, "1"]]}
STRANGE: dict[str, tuple[Reply, type[AdapterError], str]] = {
    "warnings": (
        say(http(matrix([ONE], warnings=["store gateway unavailable"]))),
        UnusableError,
        r"answered with warnings: store gateway unavailable",
    ),
    "a partial answer": (say(http(matrix([ONE], isPartial=True))), UnusableError, "partial answer"),
    "HTML": (say(http("<!DOCTYPE html><html>log in", content_type="text/html")), UnusableError, r"no JSON \(HTML\)"),
    "an empty body": (say(http("")), UnusableError, "empty answer"),
    "JSON of another kind": (say(http("[1, 2]")), UnusableError, "without success"),
    "an error with status 200": (say(http('{"status": "error", "error": "boom"}')), UnusableError, "success: boom"),
    "half a body": (half(http(matrix([ONE]), length=5000)), UnansweredError, "cut in half"),
    "half a body without a length": (
        half(b"HTTP/1.0 200 OK\r\n\r\n" + matrix([ONE]).encode()[:-9]),
        UnansweredError,
        "cut in half",
    ),
    "no answer but a closed connection": (half(b""), UnansweredError, "did not answer"),
    "500": (failure(500, "tsdb is on fire"), UnansweredError, r"failed \(HTTP 500\): tsdb is on fire"),
    "503": (say(http("Service Unavailable", status=503)), UnansweredError, r"failed \(HTTP 503\)"),
    "422": (failure(422, "too many samples"), RefusedError, r"refused the query \(HTTP 422\): too many samples"),
    "429": (failure(429, "slow down", headers={"Retry-After": "3600"}), UnansweredError, "come back later"),
    "401": (failure(401, "no org id"), RefusedError, r"refused the access \(HTTP 401\): no org id"),
    "404": (say(http("404 page not found", status=404)), UnusableError, "HTTP 404; check the URL and its path"),
    "a vector": (
        say(http('{"status": "success", "data": {"resultType": "vector", "result": []}}')),
        UnusableError,
        "a result of type vector instead of matrix",
    ),
    "values that are none": (
        say(http(matrix([{"metric": {}, "values": [[T0, "one"]]}]))),
        UnusableError,
        "a series that is none",
    ),
    "a series without labels": (say(http(matrix([{"values": []}]))), UnusableError, "a series that is none"),
    "labels that are none": (say(http(matrix([{"metric": [], "values": []}]))), UnusableError, "a series that is none"),
    "an instant out of this world": (
        say(http(matrix([ONE]).replace(str(T0), "1e999"))),
        UnusableError,
        "a series that is none",
    ),
    "200,000 series": (
        say(http(matrix([{"metric": {"i": str(i)}, "values": [[T0, "1"]]} for i in range(200_000)]))),
        UnusableError,
        "200000 series, more than 100000",
    ),
    "clocks apart": (say(http(matrix([ONE]), date=T0)), UnusableError, r"clocks differ by \d+d"),
    "deep JSON": (say(http("[" * 100_000)), UnusableError, "no JSON"),
    "no HTTP at all": (half(b"SSH-2.0-OpenSSH_9.2\r\n"), UnansweredError, "did not answer"),
}


@pytest.mark.parametrize("case", STRANGE)
def test_a_strange_answer_becomes_an_error_that_names_it(
    case: str, server: ScriptedServer, connect: Callable[..., Prometheus]
) -> None:
    server.reply, error, words = STRANGE[case]
    with pytest.raises(error, match=words) as raised:
        ask(connect(server.url, headers={"X-Scope-OrgID": SECRET}))
    assert type(raised.value).__module__ != "requests.exceptions"
    assert SECRET not in str(raised.value)


def test_infos_are_no_warnings(server: ScriptedServer, connect: Callable[..., Prometheus]) -> None:
    server.reply = say(http(matrix([ONE], infos=["metric might not be a counter"])))
    assert ask(connect(server.url)) == {"{}": {T0 * 1000: 1.0}}


def test_histogram_samples_are_marked(server: ScriptedServer, connect: Callable[..., Prometheus]) -> None:
    server.reply = say(http(matrix([{"metric": {}, "histograms": [[T0, {"count": "3", "sum": "1", "buckets": []}]]}])))
    (found,) = connect(server.url).query_range("h", T0, T0, 1, time.monotonic() + 30).series
    assert found.histogram
    assert found.values == {}


@pytest.mark.parametrize("headers", [{}, {"Date": "whenever"}])
def test_a_missing_date_is_no_skew(
    headers: dict[str, str], server: ScriptedServer, connect: Callable[..., Prometheus]
) -> None:
    server.reply = say(http(matrix([ONE]), headers=headers))
    assert ask(connect(server.url)) == {"{}": {T0 * 1000: 1.0}}


@pytest.mark.parametrize(("apart", "agrees"), [(-4.9, True), (4.9, True), (-6.1, False), (6.1, False)])
def test_clocks_may_differ_by_five_seconds(
    apart: float, agrees: bool, server: ScriptedServer, connect: Callable[..., Prometheus]
) -> None:
    server.reply = say(http(matrix([ONE]), date=T0))
    prometheus = connect(server.url, clock=lambda: T0 + apart)
    if agrees:
        assert ask(prometheus)
    else:
        with pytest.raises(UnusableError, match="clocks differ by"):
            ask(prometheus)


# --- nothing hangs, grows or tries in secret ---


@pytest.mark.parametrize("where", ["headers", "body", "chunks"])
def test_one_byte_at_a_time_is_cut_at_the_deadline(
    where: str, server: ScriptedServer, connect: Callable[..., Prometheus]
) -> None:
    answer = http(matrix([ONE]) + " " * 10_000)
    head = answer.index(b"\r\n\r\n") + 4
    if where == "headers":
        server.reply = server.trickle(answer, 0.05)
    elif where == "body":

        def slowly(asked: Asked) -> Iterator[bytes]:
            yield answer[:head]
            yield from server.trickle(answer[head:], 0.05)(asked)

        server.reply = slowly
    else:

        def chunked(asked: Asked) -> Iterator[bytes]:
            yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            yield from server.trickle(b"0000000000000000000000000000000000001" * 50, 0.05)(asked)

        server.reply = chunked
    started = time.monotonic()
    with pytest.raises(UnansweredError, match="did not answer within"):
        ask(connect(server.url), seconds=1.0)
    assert time.monotonic() - started < ENDLESS_S


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_silence_is_cut_at_the_read_timeout(
    said: bytes, server: ScriptedServer, connect: Callable[..., Prometheus]
) -> None:
    server.reply = server.silence(said)
    started = time.monotonic()
    with pytest.raises(UnansweredError, match="did not answer within"):
        ask(connect(server.url, read_timeout=0.3), seconds=120)
    assert time.monotonic() - started < ENDLESS_S


def test_silence_after_a_slow_start_is_cut_at_the_deadline(
    server: ScriptedServer, connect: Callable[..., Prometheus]
) -> None:
    def reply(asked: Asked) -> Iterator[bytes]:
        yield from server.trickle(b"HTTP/1.1 200 OK", 0.06)(asked)
        yield from server.silence()(asked)

    server.reply = reply
    started = time.monotonic()
    with pytest.raises(UnansweredError, match="did not answer within"):
        ask(connect(server.url), seconds=1.5)
    assert time.monotonic() - started < ENDLESS_S


def test_nothing_is_sent_when_the_time_is_over(server: ScriptedServer, connect: Callable[..., Prometheus]) -> None:
    with pytest.raises(UnansweredError, match="was not asked"):
        ask(connect(server.url), seconds=-1)
    assert server.connections == 0


def test_a_refused_connection_is_told(connect: Callable[..., Prometheus]) -> None:
    with pytest.raises(UnansweredError, match="refuses the connection"):
        ask(connect(f"http://127.0.0.1:{free_port()}"))


def test_an_unknown_host_is_told(connect: Callable[..., Prometheus]) -> None:
    with pytest.raises(UnansweredError, match=r"cannot be resolved|did not answer"):
        ask(connect("http://prometheus.invalid:9090"), seconds=2)


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_beyond_the_cap_is_not_kept(
    packed: bool, server: ScriptedServer, connect: Callable[..., Prometheus]
) -> None:
    server.reply = gzipped_zeros(200) if packed else say(http(b" " * 3_000_000))
    with pytest.raises(UnusableError, match=r"more than 2000000 bytes.*max_bytes"):
        ask(connect(server.url, max_bytes=2_000_000))


def test_a_packed_answer_is_unpacked(server: ScriptedServer, connect: Callable[..., Prometheus]) -> None:
    server.reply = say(http(gzip.compress(matrix([ONE]).encode()), headers={"Content-Encoding": "gzip"}))
    assert ask(connect(server.url)) == {"{}": {T0 * 1000: 1.0}}


def test_a_redirect_is_told_and_nothing_is_sent_there(
    server: ScriptedServer, connect: Callable[..., Prometheus], tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(SECRET)
    with ScriptedServer() as elsewhere:
        server.reply = say(http("", status=307, headers={"Location": f"{elsewhere.url}/api?token=abc"}))
        with pytest.raises(UnusableError, match=rf"redirects to 127\.0\.0\.1:{elsewhere.port}, which is not followed"):
            ask(connect(server.url, headers={"X-Scope-OrgID": "team"}, bearer_token_file=str(token)))
        assert elsewhere.connections == 0


@pytest.mark.parametrize(("case", "times"), [("500", 3), ("429", 1), ("422", 1), ("warnings", 1), ("half a body", 3)])
def test_only_what_may_soon_be_better_is_asked_again_and_three_times_at_most(
    case: str, times: int, server: ScriptedServer, connect: Callable[..., Prometheus]
) -> None:
    server.reply = STRANGE[case][0]
    with pytest.raises(AdapterError):
        ask(connect(server.url))
    assert len(server.asked) == times


def test_a_hiccup_is_bridged(server: ScriptedServer, connect: Callable[..., Prometheus]) -> None:
    answers = iter([failure(503, "starting"), say(http(matrix([ONE])))])

    def reply(asked: Asked) -> Iterator[bytes]:
        yield from next(answers)(asked)

    server.reply = reply
    assert ask(connect(server.url)) == {"{}": {T0 * 1000: 1.0}}


def test_many_queries_share_few_connections(server: ScriptedServer, connect: Callable[..., Prometheus]) -> None:
    prometheus = connect(server.url)
    for _ in range(20):
        ask(prometheus)
    assert server.connections == 1


def test_one_prometheus_may_be_asked_by_several_threads(
    server: ScriptedServer, connect: Callable[..., Prometheus]
) -> None:
    def echo(asked: Asked) -> Iterator[bytes]:
        yield http(matrix([{"metric": {"q": asked.form["query"]}, "values": []}]))

    server.reply = echo
    prometheus = connect(server.url)
    wrong: list[object] = []

    def many(name: str) -> None:
        for number in range(20):
            found = ask(prometheus, f"{name}{number}")
            if list(found) != [json.dumps({"q": f"{name}{number}"})]:
                wrong.append(found)

    threads = [threading.Thread(target=many, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- how it is reached ---


def test_a_query_is_a_form_with_its_parameters_and_headers(
    server: ScriptedServer, connect: Callable[..., Prometheus]
) -> None:
    long = "sum(" + " + ".join(f"metric_{i}" for i in range(5000)) + ")"
    prometheus = connect(
        f"{server.url}/prometheus/", headers={"X-Scope-OrgID": "team-a"}, params={"partial_response": "true"}
    )
    ask(prometheus, long, seconds=25, start=T0 + 0.25, end=T0 + 1.25, step=0.5)
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/prometheus/api/v1/query_range")
    assert asked.headers["x-scope-orgid"] == "team-a"
    form = asked.form
    assert 0 < float(form.pop("timeout")) <= 25, "what is left of the call's time, not what the settings allow"
    assert form == {
        "query": long,
        "start": f"{T0}.250",
        "end": f"{T0 + 1}.250",
        "step": "0.500",
        "partial_response": "true",  # the operator's word is the last
        "deny_partial_response": "1",
        "nocache": "1",
    }


def test_the_token_is_read_again_when_it_is_rotated(
    server: ScriptedServer, connect: Callable[..., Prometheus], tmp_path: Path
) -> None:
    token = tmp_path / "token"
    prometheus = connect(server.url, bearer_token_file=str(token))
    for content in ("first\n", "second\n"):
        token.write_text(content)
        ask(prometheus)
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer first", "Bearer second"]


def test_a_missing_token_file_is_named_and_recovered_from(
    server: ScriptedServer, connect: Callable[..., Prometheus], tmp_path: Path
) -> None:
    token = tmp_path / "token"
    prometheus = connect(server.url, bearer_token_file=str(token))
    with pytest.raises(UnansweredError, match=r"bearer_token_file: .*token cannot be read: No such file"):
        ask(prometheus)
    token.write_text("x")
    ask(prometheus)
    assert len(server.asked) == 1


@pytest.mark.parametrize("content", ["", "two\nlines", "no\u00e4scii"])
def test_a_file_that_holds_no_token_is_named(
    content: str, server: ScriptedServer, connect: Callable[..., Prometheus], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(content)
    with pytest.raises(UnansweredError, match=r"bearer_token_file: .*token must hold one line of printable ASCII"):
        ask(connect(server.url, bearer_token_file=str(tmp_path / "token")))
    assert server.asked == []


def test_basic_authentication_reads_its_password_from_a_file(
    server: ScriptedServer, connect: Callable[..., Prometheus], tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("open sesame\n")
    ask(connect(server.url, username="ali", password_file=str(tmp_path / "password")))
    assert server.asked[0].headers["authorization"] == "Basic YWxpOm9wZW4gc2VzYW1l"


def test_a_secret_that_the_server_repeats_is_hidden(
    server: ScriptedServer, connect: Callable[..., Prometheus], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(SECRET)
    server.reply = failure(401, f"bad token {SECRET}")
    with pytest.raises(RefusedError, match=r"bad token \*\*\*"):
        ask(connect(server.url, bearer_token_file=str(tmp_path / "token")))


def test_the_environments_proxies_and_netrc_are_not_used(
    server: ScriptedServer, connect: Callable[..., Prometheus], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with ScriptedServer() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        ask(connect(server.url))
        assert proxy.connections == 0
    assert "authorization" not in server.asked[0].headers


def test_a_proxy_of_the_settings_is_used_and_keeps_the_deadline(connect: Callable[..., Prometheus]) -> None:
    with ScriptedServer() as proxy:
        prometheus = connect("http://prometheus.example:9090", proxy=proxy.url)
        ask(prometheus)
        assert proxy.asked[0].path == "http://prometheus.example:9090/api/v1/query_range"
        proxy.reply = proxy.trickle(http(matrix([])), 0.05)
        with pytest.raises(UnansweredError, match="did not answer within"):
            ask(prometheus, seconds=1.5)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[ScriptedServer]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with ScriptedServer(context=context) as scripted:
        yield scripted


def test_mutual_tls_with_a_private_authority(
    secure: ScriptedServer, authority: trustme.CA, connect: Callable[..., Prometheus], tmp_path: Path
) -> None:
    ca, cert, key = (str(tmp_path / name) for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(ca)
    client = authority.issue_cert("client.example")
    client.cert_chain_pems[0].write_to_path(cert)
    client.private_key_pem.write_to_path(key)
    ask(connect(secure.url, ca_file=ca, cert_file=cert, key_file=key))
    secure.reply = secure.trickle(http(matrix([])), 0.05)
    with pytest.raises(UnansweredError, match="did not answer within"):
        ask(connect(secure.url, ca_file=ca, cert_file=cert, key_file=key), seconds=2)
    with pytest.raises(UnansweredError, match="Prometheus at 127"):
        ask(connect(secure.url, ca_file=ca))  # no client certificate
    with pytest.raises(UnansweredError, match=r"TLS: .*self.signed certificate|TLS: .*local issuer"):
        ask(connect(secure.url, cert_file=cert, key_file=key))
    with pytest.raises(UnansweredError, match="ca_file, cert_file or key_file cannot be read"):
        ask(connect(secure.url, ca_file=str(tmp_path / "none.pem")))
    assert len(secure.asked) == 2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"url": "prometheus:9090"}, "url: not an http or https URL; write"),
        ({"url": "http://me:secret@host"}, "url: holds a user or a password; write them as username"),
        ({"url": "http://host/?a=b"}, "url: holds a query or a fragment"),
        ({"username": "me"}, "username and password_file: only one of them is set"),
        ({"username": "me", "password_file": "f", "bearer_token_file": "f"}, "bearer_token_file and username: both"),
        ({"key_file": "k"}, "cert_file: missing beside key_file"),
        ({"timeout": 0}, "timeout: 0 is out of range"),
        ({"url": "http://host:port"}, "url: the port is no number"),
        ({"headers": {"X-Tenant": "secret\nX-Other: b"}}, "headers: 'X-Tenant' or its value is not printable ASCII"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        PrometheusSettings(**wrong)
    assert "secret" not in str(raised.value)


def test_settings_do_not_show_headers() -> None:
    assert SECRET not in repr(PrometheusSettings(headers={"X-Api-Key": SECRET}, proxy=f"http://me:{SECRET}@proxy"))
