"""The watch of the routing table: it follows, and goes on with the last table when it cannot."""

import asyncio
from pathlib import Path

import pytest
from tests.servingkit import FakeApiServer, base_version, eventually, table_of
from tests.servingstack import working

from trimtab_api.routing import RoutingTable
from trimtab_serving.settings import AgentSettings, GatewaySettings
from trimtab_serving.tablewatch import TableWatch


class Seen(list[RoutingTable]):
    def names(self) -> list[list[str]]:
        return [[model.name for model in table.models] for table in self]


def table(*names: str) -> RoutingTable:
    return table_of({name: [base_version()] for name in names})


async def test_each_change_is_seen_once(tmp_path: Path) -> None:
    seen = Seen()
    api = FakeApiServer(table("a"))
    async with api.running(), working(TableWatch(api.source(tmp_path), seen.append).run):
        await eventually(lambda: len(seen) == 1)
        api.put(table("b"))
        await eventually(lambda: len(seen) == 2)
        api.put(table("b"))
        api.put(table("c"))
        await eventually(lambda: len(seen) == 3)
    assert seen.names() == [["a"], ["b"], ["c"]]


async def test_a_table_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    seen = Seen()
    async with FakeApiServer().running() as api:
        watch = TableWatch(api.source(tmp_path), seen.append)
        async with working(watch.run):
            await eventually(lambda: api.watches == 1)
            assert not watch.has_table
            api.put(table("a"))
            await eventually(lambda: watch.has_table)


async def test_of_several_tables_each_program_follows_its_own(tmp_path: Path) -> None:
    gateway, first, second = Seen(), Seen(), Seen()
    api = FakeApiServer(table("first"))
    api.others = {"gateway.json": table("all"), "engine-2.json": table("second")}
    environment = {
        "TRIMTAB_NAMESPACE": "ns",
        "TRIMTAB_ROUTING_CONFIGMAP": "svc-routing",
        "TRIMTAB_TABLE_CACHE": "",
        "TRIMTAB_SERVICE": "svc",
        "TRIMTAB_ENGINE_URL": "http://engine",
        "TRIMTAB_BASE_NAME": "base",
        "TRIMTAB_ADAPTER_DIRECTORY": str(tmp_path),
    }
    async with api.running():
        environment["TRIMTAB_API_SERVER"] = api.address
        later = {**environment, "TRIMTAB_ROUTING_KEY": "engine-2.json"}
        watches = [
            TableWatch(GatewaySettings.of(environment).table, gateway.append),
            TableWatch(AgentSettings.of(environment).table, first.append),
            TableWatch(AgentSettings.of(later).table, second.append),
        ]
        async with working(watches[0].run), working(watches[1].run), working(watches[2].run):
            await eventually(lambda: all((gateway, first, second)))
            api.others = {}
            api.put(table("alone"))
            await eventually(lambda: len(gateway) == 2)
    assert gateway.names() == [["all"], ["alone"]]
    assert first.names()[0] == ["first"]
    assert second.names() == [["second"]], "a table that is gone stays in force"


BAD_NEWS = {
    "no JSON": "{",
    "another document": '{"hello": 1}',
}


@pytest.mark.parametrize("text", BAD_NEWS.values(), ids=BAD_NEWS.keys())
async def test_a_table_that_cannot_be_read_changes_nothing(tmp_path: Path, text: str) -> None:
    seen = Seen()
    api = FakeApiServer(table("a"))
    async with api.running(), working(TableWatch(api.source(tmp_path), seen.append).run):
        await eventually(lambda: len(seen) == 1)
        api.put(None, text)
        api.put(table("b"))
        await eventually(lambda: len(seen) == 2)
    assert seen.names() == [["a"], ["b"]]


async def test_a_watch_that_expired_begins_anew(tmp_path: Path) -> None:
    seen = Seen()
    api = FakeApiServer(table("a"), expires=True)
    async with api.running(), working(TableWatch(api.source(tmp_path), seen.append).run):
        await eventually(lambda: api.watches == 2)
        api.put(table("b"))
        await eventually(lambda: len(seen) == 2)


async def test_the_last_table_stays_while_the_api_server_is_gone(tmp_path: Path) -> None:
    seen = Seen()
    async with FakeApiServer(table("a")).running() as api:
        source = api.source(tmp_path, cache=True)
        async with working(TableWatch(source, seen.append).run):
            await eventually(lambda: len(seen) == 1)
    # A container that restarts now has its copy.
    again = Seen()
    watch = TableWatch(source, again.append)
    async with working(watch.run):
        await eventually(lambda: watch.has_table)
        assert not watch.is_connected
    assert again.names() == [["a"]]


async def test_a_renewed_token_is_used_for_the_next_request(tmp_path: Path) -> None:
    seen = Seen()
    async with FakeApiServer(table("a")).running() as api:
        source = api.source(tmp_path)
        async with working(TableWatch(source, seen.append).run):
            await eventually(lambda: api.watches == 1)
            source.token_file.write_text("token-2\n")
            api.end_watches()
            await eventually(lambda: api.watches == 2)
    assert api.tokens[0] == "Bearer token-1"
    assert api.tokens[-1] == "Bearer token-2"


async def test_an_answer_that_is_an_error_is_tried_again(tmp_path: Path) -> None:
    watch = TableWatch(FakeApiServer().source(tmp_path), Seen().append)
    async with working(watch.run):  # no address at all
        await asyncio.sleep(0.05)
        assert not watch.has_table
