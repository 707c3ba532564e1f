"""Import of CSV and GeoJSON files as catalogues, by a mapping file."""

from offers.catalogue.importing.table import ImportResult, Reject, import_table

__all__ = ["ImportResult", "Reject", "import_table"]
