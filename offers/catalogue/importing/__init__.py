"""CSV files to catalogues, by a mapping file."""

from offers.catalogue.importing.table import ImportResult, Reject, import_csv

__all__ = ["ImportResult", "Reject", "import_csv"]
