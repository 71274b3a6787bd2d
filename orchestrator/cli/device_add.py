"""``edgematrix device add``: this computer under a name of its own, or a board over SSH."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.exit_codes import ExitCode
from orchestrator.cli.key_values import key_values

if TYPE_CHECKING:
    from orchestrator.service.ssh_devices import AddedDevice, NewSshDevice


def add(
    name: Annotated[str, typer.Argument(help="A name of its own.", show_default=False)],
    ssh: Annotated[
        str | None,
        typer.Option(
            metavar="USER@HOST[:PORT]", help="Reach it over SSH; a Host of your OpenSSH configuration will do.", show_default=False
        ),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="The kind of board; 'edgematrix profile list' shows them.", show_default="this computer's")
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="FILE", help="The private key to log in with.", show_default="as OpenSSH's")] = None,
    jump: Annotated[str | None, typer.Option(metavar="HOST", help="Go through this host (ProxyJump).", show_default="as OpenSSH's")] = None,
    host_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="The host's key ('TYPE BASE64') or its fingerprint ('SHA256:…'): for scripts.", show_default=False
        ),
    ] = None,
    gateway: Annotated[str | None, typer.Option(help="The gateway that drives it.", show_default="this one")] = None,
    interpreter: Annotated[
        str | None,
        typer.Option(
            help="Its default environment: 'bundle', or a command prefix, quoted: 'qemu-x86_64 -cpu Haswell python3'.",
            show_default="the profile's",
        ),
    ] = None,
    emulated: Annotated[str, typer.Option(help="none, cpu or environment: shown beside every number of this device.")] = "none",
    root: Annotated[
        str | None, typer.Option(help="The device's folder.", show_default="edgematrix-device in the user's home; of this computer: here")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE, may be repeated; device expressions see it as label.KEY.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Add a device: over SSH with --ssh (exit code 3 when its first health check fails), else as processes of this computer."""
    labels = key_values(label, "--label")
    if ssh is None:
        _add_local(name, profile, root, labels, as_json)
        return
    if profile is None:
        raise typer.BadParameter("a device over SSH needs one: 'edgematrix profile list' shows them", param_hint="--profile")
    from orchestrator.cli.output import message, print_checks, print_json
    from orchestrator.service import ssh_devices
    from orchestrator.service.context import open_context

    asked = ssh_devices.NewSshDevice(
        name=name,
        target=ssh,
        profile=profile,
        key_file=key,
        jump=jump,
        gateway=gateway,
        root=root,
        labels=labels,
        emulated=emulated,
        interpreter="bundle" if interpreter == "bundle" else tuple(shlex.split(interpreter)) if interpreter else None,
    )
    context = open_context()
    added = ssh_devices.add_ssh_device(context, asked, confirmed_host_key(asked, host_key))
    if as_json:
        print_json({"device": added.device, "environment": added.environment, "checks": added.checks})
    else:
        message(f"device {name} added: {added.device.where}, {added.device.profile}")
        _say_environment(added)
        print_checks(added.checks)
    if added.problem is not None:
        raise added.problem
    if any(item.status == "failed" for item in added.checks):
        raise typer.Exit(ExitCode.INFRASTRUCTURE)


def confirmed_host_key(asked: NewSshDevice, given: str | None) -> str:
    """The key to pin: the one given, or the one that the host shows once a person, or a given fingerprint, says that it is right."""
    import sys

    from orchestrator.cli.output import message
    from orchestrator.service import ssh_devices

    if given is not None and not given.startswith("SHA256:"):
        return given
    seen = ssh_devices.see_host_key(asked)
    if given is not None:
        if seen.fingerprint != given:
            raise typer.BadParameter(
                f"{asked.target} shows {seen.fingerprint} ({seen.kind}), which is another key", param_hint="--host-key"
            )
        return seen.line
    message(f"{asked.target} shows the host key {seen.fingerprint} ({seen.kind}).")
    message("On the board itself, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` (or the file of that type) prints it, too.")
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            f"nobody is here to confirm it; if it is the right one: --host-key {seen.fingerprint}", param_hint="--host-key"
        )
    typer.confirm("Is this the right key?", abort=True, err=True)
    return seen.line


def _say_environment(added: AddedDevice) -> None:
    from orchestrator.cli.output import message

    if added.environment is not None:
        runtimes = ", ".join(f"{runtime} {version}" for runtime, version in added.environment.runtimes.items())
        message(f"environment {added.environment.name}: {runtimes}")


def _add_local(name: str, profile: str | None, root: str | None, labels: dict[str, str], as_json: bool) -> None:
    from orchestrator.cli.output import message, print_json
    from orchestrator.service import devices
    from orchestrator.service.context import open_context

    view = devices.add_local_device(open_context(), name, profile, labels, root)
    if as_json:
        print_json(view)
    else:
        message(f"device {view.name} added; next: edgematrix env add default --python PATH --device {view.name}")
        message(f"then: edgematrix device check {view.name}")
