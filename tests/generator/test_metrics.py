"""What the generator counts of jobs, batches and its catalog."""

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry

from services.generator.batching import Limits
from services.generator.catalog.follower import Follower
from services.generator.metrics import GeneratorMetrics
from services.generator.servicer import GeneratorServicer
from serving.testing import serving
from tandem.v1 import generator_service_pb2 as pb
from tandem.v1 import generator_service_pb2_grpc as rpc
from tests.generator.calls import ids
from tests.generator.made_up import MadeUp

CALLS = 6


async def test_batches_and_their_jobs_are_counted(made_up: MadeUp) -> None:
    registry = CollectorRegistry()
    servicer = GeneratorServicer(
        Follower(made_up.engine), {}, "tiny/1", Limits(batch=4), GeneratorMetrics(registry)
    )

    def count(name: str) -> Any:
        return registry.get_sample_value(f"tandem_generator_{name}")

    await servicer.activate(None)
    context = pb.UserContext(history_item_ids=ids(1, 2))
    async with serving(servicer, rpc.add_GeneratorServiceServicer_to_server) as channel:
        stub = rpc.GeneratorServiceStub(channel)
        generate = pb.GenerateRequest(context=context, max_results=5)
        answers = await asyncio.gather(*(stub.Generate(generate) for _ in range(CALLS)))
        await stub.Rerank(pb.RerankRequest(context=context, item_ids=ids(3, 4)))
    await servicer.close()
    batches = sum(1 / answer.batch_size for answer in answers) + 1
    assert count("batch_jobs_sum") == CALLS + 1
    assert count("batch_jobs_count") == count("batch_seconds_count") == round(batches)
    assert count("queue_seconds_count") == count("prepare_seconds_count") == CALLS + 1
    # Reranking has no beams; generating has those of the model, or more for a longer list.
    assert count("beams_count") == CALLS
    assert count("beams_sum") == CALLS * max(5, made_up.engine.parts.section.beams)
    assert count("prompt_tokens_count") == CALLS + 1
    assert count("padding_tokens_total") == 0, "all prompts are as long"
    assert count("jobs_waiting") == 0
    assert registry.get_sample_value("tandem_catalog_items") == len(made_up.engine.snapshot.catalog)
    assert registry.get_sample_value("tandem_catalog_sequence") == 0
