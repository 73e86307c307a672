"""The `handrail` command."""

import typer

from handrail.commands import (
    audit,
    bench,
    debug,
    demo,
    desk,
    dlq,
    doctor,
    generate,
    mcp,
    publish,
    replay,
    seed,
    shadow,
    templates,
    up,
)

app = typer.Typer(
    name="handrail",
    help="Event-driven AI-agent workflows with people holding the rail.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(up.up)
app.command()(demo.demo)
app.command()(bench.bench)
app.command()(up.down)
app.command()(up.status)
app.command()(doctor.doctor)
app.command()(up.token)
app.command()(replay.replay)
app.command()(publish.publish)
app.command()(seed.seed)
app.command()(generate.generate)
app.command()(debug.debug)
app.command()(mcp.mcp)
app.command()(shadow.shadow)
app.add_typer(templates.app, name="templates")
app.add_typer(desk.app, name="desk")
app.add_typer(audit.app, name="audit")
app.add_typer(dlq.app, name="dlq")
