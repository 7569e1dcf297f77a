"""No module imports itself in a circle, imports for type checking alone included."""

import graphlib

import grimp


def find_cycle(imports: dict[str, set[str]]) -> list[str]:
    """Return the modules of one circle of imports, none where there is no circle."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = grimp.build_graph("envs", "optimize", exclude_type_checking_imports=False, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 200
    assert find_cycle(imports) == []


def test_a_circle_is_found() -> None:
    assert set(find_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
