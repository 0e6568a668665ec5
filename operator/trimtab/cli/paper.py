"""`trimtab plan` and `trimtab simulate`: what a model will do, on paper, before anything runs and without a cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from trimtab.cli import paper_input, paper_output
from trimtab.cli.access import fail
from trimtab.cli.paper_input import InputError
from trimtab.plan.memory import DoesNotFit, fit
from trimtab.plan.outlook import Outlook
from trimtab.plan.paper import PaperAnswer, PaperError, PaperRequest, plan_on_paper
from trimtab.plan.point import Layout, ServingPoint, Traffic
from trimtab.plan.request import Objective

Model = Annotated[str, typer.Option(help="Its name on the Hugging Face hub, or the path of its config.json.")]
GpuType = Annotated[str, typer.Option("--gpu", help="The type of GPU, such as H100 or NVIDIA-L40S.")]
Isl = Annotated[float, typer.Option(help="Mean prompt length in tokens.")]
Osl = Annotated[float, typer.Option(help="Mean output length in tokens.")]
Rate = Annotated[float | None, typer.Option(help="Requests per second, of all replicas together (open loop).")]
Concurrency = Annotated[float | None, typer.Option(help="Clients that each wait for their answer (closed loop).")]
Burstiness = Annotated[float, typer.Option(help="Squared variation of the times between requests; 1 is Poisson.")]
Prefix = Annotated[float, typer.Option("--prefix-share", help="Part of the prompt found in the prefix cache, 0 to 1.")]
EngineName = Annotated[str, typer.Option("--engine", help="vllm, trimtab, sglang or trtllm.")]
EngineVersion = Annotated[str, typer.Option("--engine-version", help="Decides defaults; the newest when left out.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
MaxModelLen = Annotated[int | None, typer.Option(help="The longest context that is served, in tokens.")]


def plan(
    file: Annotated[Path | None, typer.Option("-f", "--file", help="An LLMDeployment manifest to plan for.")] = None,
    model: Model = "",
    gpu: GpuType = "",
    gpus: Annotated[int | None, typer.Option(help="How many GPUs there are for all replicas together.")] = None,
    isl: Isl = 0.0,
    osl: Osl = 0.0,
    rate: Rate = None,
    concurrency: Concurrency = None,
    burstiness: Burstiness = 1.0,
    prefix_share: Prefix = 0.0,
    slo: Annotated[list[str] | None, typer.Option(help="A target such as ttft.p95=500ms; may be repeated.")] = None,
    objective: Annotated[Objective | None, typer.Option(help="What counts while the SLO is met.")] = None,
    engine: EngineName = "vllm",
    engine_version: EngineVersion = "",
    weights: Annotated[str, typer.Option(help="Formats that may be chosen: native,fp8,nvfp4,int4_wo.")] = "native",
    kv_cache: Annotated[str, typer.Option(help="Formats of the KV cache that may be chosen: native,fp8.")] = "native",
    max_model_len: MaxModelLen = None,
    fixed: Annotated[list[str] | None, typer.Option("--set", help="A knob that must have a value: knob=value.")] = None,
    price: Annotated[float | None, typer.Option(help="What a GPU costs per hour.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the Pareto plot there; .png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Say which configuration to start a model with, what it will do, and what else was considered."""
    try:
        served_by, version = paper_input.engine(engine, engine_version)
        request = (
            paper_input.request_from_manifest(file, gpus)
            if file is not None
            else PaperRequest(
                model=paper_input.model(model),
                device=paper_input.device(gpu),
                gpus=1 if gpus is None else gpus,
                engine=served_by,
                version=version,
                traffic=_traffic(isl, osl, rate, concurrency, burstiness, prefix_share),
                max_model_len=max_model_len,
            )
        )
        request = replace(
            request,
            targets=(*request.targets, *paper_input.targets(slo or ())),
            objective=objective or request.objective,
            weights=paper_input.formats(weights, "weights") or request.weights,
            caches=paper_input.formats(kv_cache, "kv-cache") or request.caches,
            fixed={**request.fixed, **paper_input.settings(fixed or ())},
            price=price,
        )
        if plot is not None:
            paper_input.plot_path(plot)
        answer = plan_on_paper(request)
    except PaperError as error:
        raise fail(f"{error.field}: {error}") from error
    except ValueError as error:
        raise fail(str(error)) from error
    if plot is not None:
        _plot(request, answer, plot)
    if as_json:
        typer.echo(json.dumps(paper_output.as_json(answer), indent=2))
    else:
        paper_output.show(paper_output.console(), request, answer)
    if not isinstance(answer, paper_output.PaperPlan):
        raise typer.Exit(2)


def simulate(
    model: Model,
    gpu: GpuType,
    isl: Isl,
    osl: Osl,
    rate: Rate = None,
    concurrency: Concurrency = None,
    burstiness: Burstiness = 1.0,
    prefix_share: Prefix = 0.0,
    engine: EngineName = "vllm",
    engine_version: EngineVersion = "",
    tensor_parallel: Annotated[int, typer.Option(help="tensorParallelSize.")] = 1,
    pipeline_parallel: Annotated[int, typer.Option(help="pipelineParallelSize.")] = 1,
    data_parallel: Annotated[int, typer.Option(help="dataParallelSize, of the attention.")] = 1,
    expert_parallel: Annotated[bool, typer.Option(help="enableExpertParallel.")] = False,
    weights: Annotated[str, typer.Option(help="The format of the weights; native is the checkpoint's.")] = "native",
    kv_cache: Annotated[str, typer.Option(help="The format of the KV cache; native or fp8.")] = "native",
    max_num_seqs: Annotated[int | None, typer.Option(help="maxNumSeqs.")] = None,
    max_num_batched_tokens: Annotated[int | None, typer.Option(help="maxNumBatchedTokens.")] = None,
    max_model_len: MaxModelLen = None,
    as_json: Json = False,
) -> None:
    """Say what one configuration of one replica does under a traffic: what if."""
    try:
        served_by, version = paper_input.engine(engine, engine_version)
        shape = paper_input.model(model)
        gpus = tensor_parallel * data_parallel
        own = paper_input.native(shape) if weights == "native" else (weights, weights)
        point = ServingPoint(
            model=shape,
            device=paper_input.device(gpu),
            engine=served_by,
            version=version,
            layout=Layout(
                tensor=tensor_parallel,
                pipeline=pipeline_parallel,
                data=data_parallel,
                expert=gpus if expert_parallel else 1,
            ),
            weights=own[0],
            experts=own[1],
            kv_cache="bf16" if kv_cache == "native" else kv_cache,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            max_model_len=max_model_len,
        )
        traffic = _traffic(isl, osl, rate, concurrency, burstiness, prefix_share)
        PaperRequest(model=shape, device=point.device, traffic=traffic, max_model_len=max_model_len).checked()
        room = fit(point)
        if isinstance(room, DoesNotFit):
            raise InputError("memory", room.reason)
        figures = Outlook.of([point], [traffic], [1]).figures(0)
    except PaperError as error:
        raise fail(f"{error.field}: {error}") from error
    except ValueError as error:
        raise fail(str(error)) from error
    if as_json:
        typer.echo(json.dumps(paper_output.figures_json(figures), indent=2))
    else:
        paper_output.show_point(paper_output.console(), point, traffic, room, figures)


def _traffic(
    isl: float, osl: float, rate: float | None, concurrency: float | None, burstiness: float, prefix_share: float
) -> Traffic:
    if not 0.0 <= prefix_share < 1.0:
        raise InputError("prefix-share", f"{prefix_share:g} is no share of the prompt; give 0 or more, below 1.")
    if burstiness < 0:
        raise InputError("burstiness", f"{burstiness:g} is no squared variation; give 0 or more.")
    return Traffic(
        prompt=isl,
        output=osl,
        rate=rate,
        concurrency=concurrency,
        burstiness=burstiness,
        prefix_share=prefix_share,
    )


def _plot(request: PaperRequest, answer: PaperAnswer, path: Path) -> None:
    try:
        from trimtab.cli import pareto_plot
    except ImportError:
        raise fail("the plot needs matplotlib: pip install 'trimtab[plot]'.") from None
    pareto_plot.write(request, answer, path)
    typer.echo(f"The Pareto plot is {path}.", err=True)
