"""Programs are compiled once per content, whatever the checkout they come from."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from trimtab_local import build
from trimtab_local.build import Artifact
from trimtab_local.layout import Layout, Ports, layout_from, save_ports
from trimtab_local.ociarchive import write_archive

OURS = Artifact("ours", ("tool",), (".",), module="module")


def sources(folder: Path, code: str = "package main") -> Path:
    module = folder / "module"
    module.mkdir(parents=True)
    (module / "go.mod").write_text("module ours")
    (module / "main.go").write_text(code)
    return folder


def test_two_checkouts_of_the_same_content_share_one_binary(tmp_path: Path) -> None:
    one, two = sources(tmp_path / "one"), sources(tmp_path / "two")
    assert build.content_hash(OURS, one) == build.content_hash(OURS, two)


def a_tool(flags: str, links: tuple[tuple[str, str], ...] = ()) -> Artifact:
    """An artifact of this checkout that the flags tell from others of its name."""
    return Artifact("tool", ("tool",), ("./probe",), module="node", flags=flags, links=links)


def test_a_changed_source_makes_another_binary(tmp_path: Path) -> None:
    one, two = sources(tmp_path / "one"), sources(tmp_path / "two", "package other")
    assert build.content_hash(OURS, one) != build.content_hash(OURS, two)


def test_a_file_that_is_in_no_binary_changes_nothing(tmp_path: Path) -> None:
    one, two = sources(tmp_path / "one"), sources(tmp_path / "two")
    (two / "module" / "notes.md").write_text("a note")
    (two / "module" / "main_test.go").write_text("package main")
    assert build.content_hash(OURS, one) == build.content_hash(OURS, two)


def test_another_pin_makes_another_binary(tmp_path: Path) -> None:
    one, two = sources(tmp_path / "one"), sources(tmp_path / "two")
    (two / "module" / "go.mod").write_text("module ours\nrequire example.org/tool v2")
    assert build.content_hash(OURS, one) != build.content_hash(OURS, two)


def test_links_follow_the_binary_in_use(tmp_path: Path) -> None:
    layout = Layout(home=tmp_path / "home", cache=tmp_path)
    tool = a_tool("one", links=(("alias", "tool"),))
    newer = a_tool("two", links=(("alias", "tool"),))
    build.link(layout, [tool])
    build.link(layout, [newer])
    build.link(layout, [newer])
    expected = build.folder_of(newer, layout) / "tool"
    assert (layout.programs / "tool").readlink() == expected
    assert (layout.programs / "alias").readlink() == expected


def test_what_a_killed_builder_left_is_removed_and_a_living_one_s_kept(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / f"tool-1.{dead.pid}").mkdir()
    (tmp_path / f"tool-1.{os.getpid()}").mkdir()
    (tmp_path / "tool-1").mkdir()
    build._remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"tool-1", f"tool-1.{os.getpid()}"}


def builds(layout: Layout, *names: str) -> Path:
    """Folders of built programs in the cache."""
    folder = layout.cache / "programs"
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "tool").write_bytes(b"\x7fELF")
    return folder


def test_earlier_builds_go_and_the_current_one_and_other_programs_stay(tmp_path: Path) -> None:
    layout = Layout(home=tmp_path / "home", cache=tmp_path)
    tool = a_tool("two")
    current = build.folder_of(tool, layout).name
    others = ("tool-box-00000000000000aa", "tool-00000000000000aa.77", "tool-notes")
    old = ("tool-00000000000000aa", "tool-00000000000000bb")
    folder = builds(layout, current, *others, *old)
    assert [path.name for path in build.remove_outdated(layout, [tool])] == sorted(old)
    assert {path.name for path in folder.iterdir()} == {current, *others}


def test_an_earlier_build_that_still_runs_stays_until_it_has_ended(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "cache").symlink_to("real")  # the kernel tells the real path
    layout = Layout(home=tmp_path / "home", cache=tmp_path / "cache")
    tool = a_tool("two")
    program = builds(layout, "tool-00000000000000aa") / "tool-00000000000000aa" / "tool"
    shutil.copy2(shutil.which("sleep") or "", program)
    with subprocess.Popen([program, "60"]) as running:
        try:
            assert build.remove_outdated(layout, [tool]) == []
        finally:
            running.kill()
    assert build.remove_outdated(layout, [tool]) == [program.parent]
    assert not program.exists()


def test_every_program_that_is_started_belongs_to_an_artifact() -> None:
    layout = Layout(home=Path("/state"), cache=Path("/cache"))
    for name in ("trimtab-kube", "containerd", "ctr", "coredns", "registry", "forward", "pause"):
        assert build.binary(layout, name).is_relative_to("/cache/programs")


def test_the_same_program_makes_the_same_image(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"\x7fELF")
    write_archive(program, "trimtab.local/pause:1", tmp_path / "one.tar")
    write_archive(program, "trimtab.local/pause:1", tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        assert {"index.json", "oci-layout"} <= set(archive.getnames())


def test_the_environment_moves_the_state_and_the_cache(tmp_path: Path) -> None:
    layout = layout_from({"TRIMTAB_LOCAL_HOME": str(tmp_path), "XDG_CACHE_HOME": "/caches"})
    assert layout.home == tmp_path
    assert layout.cache == Path("/caches/trimtab")
    assert layout_from({"TRIMTAB_CACHE": "/other"}).cache == Path("/other")


def test_later_commands_know_the_ports_that_up_was_given(tmp_path: Path) -> None:
    environment = {"TRIMTAB_LOCAL_HOME": str(tmp_path)}
    save_ports(Layout(home=tmp_path, cache=tmp_path, ports=Ports(api=7443)))
    assert layout_from(environment).ports == Ports(api=7443)
