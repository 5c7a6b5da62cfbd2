"""Look-ups that other domains make."""

from app.credentials.service import CredentialService
from app.database import Database
from tests.factories import Registry


class TestLookUps:
    async def test_ids_by_name_are_those_of_the_space(self, database: Database, registry: Registry) -> None:
        space_id, other = await registry.default_space(), await registry.space()
        known = await registry.credential("ops")
        await registry.credential("web", space_id=other)
        async with database.readers() as session:
            service = CredentialService(session)
            assert await service.ids_by_name(space_id, {"ops", "web", "none"}) == {"ops": known}
            assert await service.ids_by_name(space_id, []) == {}

    async def test_names_by_id(self, database: Database, registry: Registry) -> None:
        known = await registry.credential("ops")
        async with database.readers() as session:
            service = CredentialService(session)
            assert await service.name_of([known, known + 1]) == {known: "ops"}
            assert await service.name_of([]) == {}
