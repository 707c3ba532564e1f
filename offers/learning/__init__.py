"""What is learned from events: models, recommendation, evaluation."""

import offers.compiled  # noqa: F401 - says where its loops are kept
