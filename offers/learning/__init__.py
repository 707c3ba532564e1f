"""Models of what people take up, learned from the log.

The way of an event through these modules:

log          log_reading      decisions and events in one order
  → outcomes   outcomes         which events are outcomes of an offer, and what each is worth
  → examples   settling         when an outcome is settled (pending: decisions that wait for theirs);
               propensity/      rows of keys and numbers (features, rows, examples)
  → models     propensity/      an online regression for each reward, which learns its latest examples again
                                (rehearsal), and trees grown from time to time
               recommend/       habit, popularity and co-occurrence, from visits (visit_training)
               training         all of these on their way through the log
  → gate       promotion        whether a model is no worse than the published one
  → published  learner, model   directories of arrays that the workers map into memory; checkpoints (model_folder)
"""

import offers.compiled  # noqa: F401 - says where its loops are kept
