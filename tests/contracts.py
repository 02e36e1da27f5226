"""A rule for import-linter: a package imports itself, the standard library and a short list, nothing else."""

import sys
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class OnlyContract(Contract):
    """A list of what is allowed; import-linter's own `forbidden` would have to name every other library.

    Options: `source_modules` (packages that are held to it), `allowed_modules` (what they may import besides themselves
    and the standard library).
    """

    type_name = "only"

    source_modules = fields.ListField(subfield=fields.ModuleField())
    allowed_modules = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Direct imports are enough: whatever else is imported inside the package is checked as well."""
        found: list[str] = []
        for source in self.source_modules:  # type: ignore[attr-defined]  # a field becomes its value on the instance
            inside = {source.name} | graph.find_descendants(source.name)
            for module in sorted(inside):
                for imported in sorted(graph.find_modules_directly_imported_by(module)):
                    top = imported.partition(".")[0]
                    if imported not in inside and top not in sys.stdlib_module_names and top not in self._allowed():
                        found += [
                            f"{module} (line {detail['line_number']}) imports {imported}"
                            for detail in graph.get_import_details(importer=module, imported=imported)
                        ]
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """One line for each import that must go."""
        metadata: dict[str, Any] = check.metadata
        for line in metadata["found"]:
            output.print_error(line)
        output.print(f"Allowed besides the standard library: {', '.join(sorted(self._allowed()))}.")

    def _allowed(self) -> frozenset[str]:
        allowed: Any = self.allowed_modules  # a field becomes its value on the instance
        return frozenset(allowed)
