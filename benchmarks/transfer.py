"""``python -m benchmarks.transfer``: files over SSH against OpenSSH's own ``sftp``, and what a second and a broken push cost.

Both sides speak to the same OpenSSH server on loopback, over a session that is logged in already, each with its own default cipher, from
and to a file system in memory where there is one. Run it on a machine that does nothing else. Exit code 1 when a bar was missed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from agent.errors import DeviceUnreachable
from benchmarks import summary
from benchmarks.loopback.sshd import Sshd
from benchmarks.loopback.tcp_proxy import TcpProxy
from benchmarks.pairs import MIN_PAIRS, Bar, Measurement, interleave, judge_ratio, judge_value
from benchmarks.plan import REPOSITORY, Figure, Plan, Row
from orchestrator.dispatch.agent_package import build_agent_package
from orchestrator.dispatch.device_agent import PULL_BYTES, DeviceAgent
from orchestrator.dispatch.push import PART_BYTES
from orchestrator.transports.ssh import SshTransport

SIZE_BYTES = 256 * 1024 * 1024
#: At least 0.9 times as fast: at most 1/0.9 times the time.
BAR = Bar(round(1 / 0.9, 3))
#: SSH and SFTP wrap every block of 32 KiB.
_FIRST_BAR = Bar(1.02)
#: The question whether it is there, and its answer.
_SECOND_BAR = Bar(0.0001)
#: What is sent again after a break: the part that was cut, and what was on its way.
_BROKEN_BAR = Bar(round(1 + (2 * PART_BYTES) / SIZE_BYTES, 3))


class OpenSshSftp:
    """One logged-in ``sftp`` that runs a command after the other."""

    def __init__(self, sshd: Sshd, folder: Path) -> None:
        address = sshd.address()
        known = folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n")
        options = ["-o", f"UserKnownHostsFile={known}", "-o", "IdentitiesOnly=yes", "-F", "none"]
        words = ["sftp", "-q", "-b", "-", "-i", address["key_file"], *options, "-P", str(sshd.port), f"{address['user']}@127.0.0.1"]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.run("pwd")

    def run(self, command: str) -> None:
        """Run one command to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n!echo the-end\n")
        for line in self._process.stdout:
            if line.strip() == "the-end":
                return
        raise RuntimeError(f"sftp ended at: {command}")

    def close(self) -> None:
        self._process.communicate()


def measure(plan: Plan) -> Figure:
    """Time both directions in interleaved rounds, then count what repeated and broken pushes send."""
    source = plan.scratch / "source"
    source.write_bytes(os.urandom(SIZE_BYTES))
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    with Sshd(plan.scratch / "sshd") as sshd:
        rows = [*_speeds(plan, sshd, source), *_pushes(plan.scratch, sshd, source, sha256)]
        version = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr.strip()
    return Figure(
        "transfer",
        "Does content reach a device as fast as OpenSSH brings it, once, and after a break from there on?",
        tuple(rows),
        {"server": version, "size_bytes": SIZE_BYTES},
    )


def _speeds(plan: Plan, sshd: Sshd, source: Path) -> list[Row]:
    openssh, ours = OpenSshSftp(sshd, plan.scratch), SshTransport(sshd.address())
    ours.size_of(str(source))
    target = plan.scratch / "target"

    def read() -> None:
        with target.open("wb") as file:
            while part := ours.read_from(str(source), file.tell(), PULL_BYTES):
                file.write(part)

    def timed(do: Callable[[], None]) -> Callable[[], Measurement]:
        def measured() -> Measurement:
            target.unlink(missing_ok=True)
            started = time.perf_counter()
            do()
            elapsed = time.perf_counter() - started
            assert target.stat().st_size == SIZE_BYTES
            return {"secs": elapsed}

        return measured

    rows = []
    for name, theirs, mine in (
        ("put", timed(lambda: openssh.run(f"put {source} {target}")), timed(lambda: ours.put(source, str(target)))),
        ("read", timed(lambda: openssh.run(f"get {source} {target}")), timed(read)),
    ):
        rounds = interleave(theirs, mine, plan.pairs, plan.seed)
        baseline, candidate = (
            median(secs) for secs in zip(*((item.baseline["secs"], item.candidate["secs"]) for item in rounds), strict=True)
        )
        speeds = f"{SIZE_BYTES / 1e6 / candidate:.0f} MB/s, sftp {SIZE_BYTES / 1e6 / baseline:.0f} MB/s"
        what = f"{name} of {SIZE_BYTES >> 20} MiB ({speeds}), our time over that of sftp"
        rows.append(Row(what, "s", judge_ratio(rounds, "secs", BAR), baseline, candidate))
    openssh.close()
    ours.close()
    return rows


def _pushes(scratch: Path, sshd: Sshd, source: Path, sha256: str) -> list[Row]:
    """Count the bytes on the wire, both directions, as shares of the content's size."""
    package = build_agent_package(scratch / "agents")

    def agent(root: str, wire: SshTransport) -> DeviceAgent:
        made = DeviceAgent(wire, str(scratch / root), [sys.executable], package)
        made.push_agent()
        return made

    with TcpProxy(sshd.port) as link:
        address = sshd.address(port=link.port)
        wire = SshTransport(address)
        whole, broken = agent("whole", wire), agent("broken", wire)
        first, second = (_count(link, lambda: _push(whole, source, sha256)) for _ in range(2))
        before = link.forwarded_bytes
        link.cut_after_bytes = before + SIZE_BYTES // 2
        pushing = threading.Thread(target=lambda: _until_it_breaks(broken, source, sha256))
        pushing.start()
        while not link.is_cut:
            time.sleep(0.005)
        sshd.stop()
        link.reset()
        link.restore()
        pushing.join()
        wire.close()
        until_cut = link.forwarded_bytes - before
        sshd.start()
        # Another process goes on, as after a restart of the worker.
        wire = SshTransport(address)
        again = agent("broken", wire)
        rest = _count(link, lambda: _push(again, source, sha256))
        wire.close()
    cut = f"a push cut after {until_cut / SIZE_BYTES:.2f} of the size and the one that went on after it, together"
    return [
        Row("a push of new content, bytes on the wire over its size", "×", judge_value([first / SIZE_BYTES], _FIRST_BAR)),
        Row(f"a second push of the same content ({second} bytes)", "×", judge_value([second / SIZE_BYTES], _SECOND_BAR)),
        Row(cut, "×", judge_value([(until_cut + rest) / SIZE_BYTES], _BROKEN_BAR)),
    ]


def _push(agent: DeviceAgent, source: Path, sha256: str) -> None:
    assert agent.push_content(sha256, SIZE_BYTES, lambda: source)


def _until_it_breaks(agent: DeviceAgent, source: Path, sha256: str) -> None:
    with suppress(DeviceUnreachable):
        _push(agent, source, sha256)


def _count(link: TcpProxy, do: Callable[[], None]) -> int:
    before = link.forwarded_bytes
    do()
    return link.forwarded_bytes - before


def main() -> int:
    """Measure, print the summary and write it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--pairs", type=int, default=MIN_PAIRS, help=f"rounds per ratio; below {MIN_PAIRS} every ratio is undetermined")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "results", help="where the summary goes")
    asked = parser.parse_args()
    now, before = datetime.now(UTC), summary.load_average()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="edgematrix-transfer-", dir=memory) as scratch:
        figure = measure(Plan(asked.pairs, asked.seed, Path(scratch)))
    found = summary.Summary(
        measured_utc=now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        seed=asked.seed,
        pairs=asked.pairs,
        commit=summary.commit(),
        machine=summary.machine(),
        load_average={"before": before, "after": summary.load_average()},
        figures=(figure,),
    )
    path = summary.write(found, asked.output, now, "transfer")
    print(summary.to_markdown(found))
    print(f"written to {path}", file=sys.stderr)
    return int(found.has_failed)


if __name__ == "__main__":
    sys.exit(main())
