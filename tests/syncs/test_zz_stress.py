import asyncio, random, time, pytest
from app.config import Settings
from tests.syncs.syncing import *
from tests.syncs.test_sync_operation import *
@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"server_worker": "off", "sync_seconds": 5.0, "sync_connections": 4, "sync_connections_per_host": 2})
@pytest.mark.parametrize("seed", range(12))
async def test_stress(seed, syncs, registry, servers, credential_id):
    async def dawdle(name): await asyncio.sleep(0.001)
    ids = []
    for n in range(40):
        servers[f"10.0.0.{n}"].before = dawdle
        ids.append(await server_at(registry, f"10.0.0.{n}", credential_id=credential_id))
    random.seed(seed)
    operation = await syncs.start(ids)
    for k in range(12):
        task = asyncio.create_task(syncs.run(operation))
        await asyncio.sleep(random.uniform(0.0, 0.25))
        if task.done(): break
        # hard cut, as when the grace of a worker is over
        task.cancel()
        await asyncio.wait({task})
    t=time.monotonic()
    ended = await syncs.run(operation)
    print("took", time.monotonic()-t, ended.counts, ended.error)
    assert ended.counts == {"succeeded": 40} or ended.deaths>=3
