"""Places in replication that the test run does not make, from recorded answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from app.inventory.records import MysqlMember
from app.syncs.adapters.mysql_connection import MysqlConnection, Row
from app.syncs.adapters.mysql_members import found_members
from app.syncs.adapters.mysql_release import Release

MYSQL_8 = Release("8.4.3")
MYSQL_5_7 = Release("5.7.44-log")


@dataclass
class Recorded:
    """Answers with recorded rows, by how the question begins."""

    variables: Mapping[str, str] = field(default_factory=dict)
    channels: Sequence[Mapping[str, str | None]] = ()
    replicas: str = "0"
    group_state: str | None = None
    status: str | None = None
    asked: list[str] = field(default_factory=list)

    async def ask(self, question: str, columns: int, *, grant: str | None = None) -> Sequence[Row]:
        self.asked.append(question)
        if question.startswith("SHOW GLOBAL VARIABLES"):
            return list(self.variables.items())
        if question.startswith("SHOW GLOBAL STATUS"):
            return [("wsrep_local_state_comment", self.status)]
        return [] if self.group_state is None else [(self.group_state,)]

    async def ask_by_name(self, question: str, *, grant: str | None = None) -> Sequence[Mapping[str, str | None]]:
        self.asked.append(question)
        return self.channels

    async def value(self, question: str) -> str:
        return self.replicas


UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


class TestMembers:
    async def _member(self, recorded: Recorded, release: Release = MYSQL_8) -> MysqlMember:
        (member,) = await found_members(cast(MysqlConnection, recorded), release)
        return member

    async def test_a_replica_of_mysql_8(self) -> None:
        channel = {
            "Source_Host": "db-1", "Source_Port": "3306", "Replica_IO_Running": "Yes", "Replica_SQL_Running": "Yes",
            "Seconds_Behind_Source": "4",
        }  # fmt: skip
        variables = {"server_uuid": UUID, "server_id": "2", "super_read_only": "ON", "gtid_executed": f"{UUID}:1-9"}
        recorded = Recorded(variables, [channel])
        member = await self._member(recorded)
        assert (member.role, member.source_host, member.source_port) == ("replica", "db-1", 3306)
        assert (member.replication_state, member.lag_seconds, member.is_read_only) == ("running", 4, True)
        assert (member.server_uuid, member.gtid_executed) == (UUID, f"{UUID}:1-9")
        assert "SHOW REPLICA STATUS" in recorded.asked

    async def test_a_replica_of_mysql_5_7_is_asked_in_the_older_words(self) -> None:
        channel = {
            "Master_Host": "db-1", "Master_Port": "3306", "Slave_IO_Running": "Connecting", "Slave_SQL_Running": "Yes",
            "Seconds_Behind_Master": None,
        }  # fmt: skip
        recorded = Recorded({"server_id": "2"}, [channel])
        member = await self._member(recorded, MYSQL_5_7)
        assert (member.role, member.source_host, member.lag_seconds) == ("replica", "db-1", None)
        assert member.replication_state == "receiver Connecting, applier Yes"
        assert "SHOW SLAVE STATUS" in recorded.asked

    async def test_of_several_sources_the_worst_off_is_told(self) -> None:
        good = {"Source_Host": "a", "Replica_IO_Running": "Yes", "Replica_SQL_Running": "Yes"}
        channels = [
            {**good, "Seconds_Behind_Source": "1"},
            {**good, "Source_Host": "b", "Replica_SQL_Running": "No", "Seconds_Behind_Source": None},
            {**good, "Source_Host": "c", "Seconds_Behind_Source": "900"},
        ]
        assert (await self._member(Recorded({}, channels))).source_host == "b"

    async def test_a_member_of_a_group(self) -> None:
        variables = {"server_uuid": UUID, "group_replication_group_name": "6a8f-group"}
        member = await self._member(Recorded(variables, group_state="ONLINE"))
        assert (member.role, member.group_name, member.replication_state) == ("group_member", "6a8f-group", "ONLINE")

    async def test_a_group_that_the_server_has_left(self) -> None:
        variables = {"group_replication_group_name": "6a8f-group"}
        member = await self._member(Recorded(variables, group_state="OFFLINE", replicas="2"))
        assert (member.role, member.group_name) == ("source", None)

    async def test_a_node_of_galera(self) -> None:
        variables = {"wsrep_on": "ON", "wsrep_cluster_name": "galera-1", "read_only": "OFF"}
        member = await self._member(Recorded(variables, status="Synced"), Release("11.4.3-MariaDB"))
        assert (member.role, member.group_name, member.replication_state) == ("group_member", "galera-1", "Synced")

    async def test_values_that_do_not_fit_the_inventory_are_cut(self) -> None:
        variables = {"server_uuid": "u" * 99, "server_id": "9" * 40, "group_replication_group_name": "g" * 999}
        channel = {"Source_Host": "h" * 999, "Source_Port": "99999999999"}
        member = await self._member(Recorded(variables, [channel], group_state="ONLINE"))
        assert (len(member.server_uuid or ""), member.server_id, len(member.group_name or "")) == (36, None, 64)
        assert (len(member.source_host or ""), member.source_port) == (255, None)
