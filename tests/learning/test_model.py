"""Published models: what was written is what is opened, whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest

from offers.errors import SnapshotError
from offers.learning.model import open_model, write_model
from offers.learning.propensity.features import CATEGORY, PERSON, Features, default_features
from offers.learning.propensity.regression import WEIGHT, Propensity
from tests.learning.propensity.test_regression import FEATURES, drawn

META = {"features": FEATURES.as_json(), "position": 17}
ARRAYS = {
    "click.weight": np.array([(1.5, 2.5), (0, 0)], WEIGHT),
    "click.seen": np.array([3.0, 4.0, 20_000.0]),
    "level_key": np.empty(0, np.uint64),
}


def test_what_was_written_is_opened(tmp_path: Path) -> None:
    """Arrays of records, of numbers and of nothing, and all that is no array, come back, and cannot be changed."""
    path = write_model(tmp_path, ARRAYS, META)
    model = open_model(path)
    assert (path, path.name, META) == (model.path, model.version, model.meta)
    assert ARRAYS.keys() == model.arrays.keys()
    for name, array in ARRAYS.items():
        assert array.dtype == model.arrays[name].dtype
        np.testing.assert_array_equal(array, model.arrays[name])
        assert not model.arrays[name].flags.writeable
    assert sum(file.stat().st_size for file in path.iterdir()) == model.size


def test_opened_model_foresees_as_the_one_that_learned(tmp_path: Path) -> None:
    """A model that was written and mapped says of every offer what the learner's says, and a copy learns on."""
    learned, examples = Propensity.untaught(FEATURES), drawn(1, 300)
    learned.update(examples)
    opened = open_model(write_model(tmp_path, learned.arrays(), META))
    mapped = Propensity.of_arrays(Features.of_json(opened.meta["features"]), opened.arrays, learned.half_life_days)
    size = FEATURES.request_size
    request, offers = examples.keys[0, :size], examples.keys[:, size:]
    for expected, found in zip(learned.predict(request, offers), mapped.predict(request, offers), strict=True):
        np.testing.assert_array_equal(expected, found)
    more = drawn(2, 50)
    np.testing.assert_array_equal(learned.update(more), mapped.copy().update(more))


def test_same_content_is_the_same_version(tmp_path: Path) -> None:
    """The same contents are published once; anything else gets another version."""
    path = write_model(tmp_path, ARRAYS, META)
    before = (path / "manifest.json").stat().st_ino
    assert path == write_model(tmp_path, dict(reversed(ARRAYS.items())), META)
    assert before == (path / "manifest.json").stat().st_ino
    others = {
        write_model(tmp_path, ARRAYS, {**META, "position": 18}),
        write_model(tmp_path, {**ARRAYS, "click.seen": np.array([3.0, 4.0, 20_001.0])}, META),
        write_model(tmp_path, {**ARRAYS, "level_key": np.empty(0, np.int64)}, META),
    }
    assert 3 == len(others - {path})
    assert {path, *others} == set(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["manifest.json", *(f"{name}.npy" for name in ARRAYS)])
def test_damage_is_found_and_mended(tmp_path: Path, name: str) -> None:
    """A file with a byte changed, cut short or gone is refused, and writing the model anew puts a good one in place."""
    meta = {"position": 17}
    path = write_model(tmp_path, ARRAYS, meta)
    content = (path / name).read_bytes()
    for place in range(len(content)):
        (path / name).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(SnapshotError, match=f"{name}|another format"):
            open_model(path)
    (path / name).write_bytes(content[:-1])
    with pytest.raises(SnapshotError, match=name):
        open_model(path)
    (path / name).unlink()
    with pytest.raises(SnapshotError, match=name):
        open_model(path)
    assert path == write_model(tmp_path, ARRAYS, meta)
    assert meta == open_model(path).meta


def test_an_open_model_survives_its_files(tmp_path: Path) -> None:
    """Files that are cut short under an open model, or exchanged, change nothing of it."""
    path = write_model(tmp_path, ARRAYS, META)
    model = open_model(path)
    for file in path.iterdir():
        os.truncate(file, 0)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(array, model.arrays[name])


def test_other_formats_are_refused(tmp_path: Path) -> None:
    """A model in the format of another build is refused."""
    path = write_model(tmp_path, ARRAYS, META)
    manifest = orjson.loads((path / "manifest.json").read_bytes())
    (path / "manifest.json").write_bytes(orjson.dumps({**manifest, "format": 0}))
    with pytest.raises(SnapshotError, match="another format than 3"):
        open_model(path)


@pytest.mark.parametrize("name", ["", "../weight", "Weight", "a/b", ".hidden"])
def test_names_are_file_names(tmp_path: Path, name: str) -> None:
    """An array whose name could lead elsewhere is refused, and nothing is left of the attempt."""
    with pytest.raises(ValueError, match="cannot be the name of an array"):
        write_model(tmp_path, {**ARRAYS, name: np.zeros(1)}, META)
    assert [] == list(tmp_path.iterdir())


WRITER = """
import sys
from pathlib import Path
import numpy as np
from offers.learning.model import write_model
print(flush=True)
for number in range(1_000_000):
    arrays = {f"part{part}": np.full(10_000, number) for part in range(30)}
    write_model(Path(sys.argv[1]), arrays, {"number": number})
"""


def test_readers_and_killed_writers_meet_whole_models(tmp_path: Path) -> None:
    """A model that has its place is whole from the first instant on, and whenever its writer is killed."""
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            before = published = _published(tmp_path)
            try:
                while len(published - before) < 2:
                    assert process.poll() is None
                    for path in _published(tmp_path) - published:
                        open_model(path)
                    published = _published(tmp_path)
            finally:
                process.kill()
    for path in _published(tmp_path):
        model = open_model(path)
        assert 30 == len(model.arrays)
        assert {model.meta["number"]} == set(np.concatenate(list(model.arrays.values())))


def _published(folder: Path) -> set[Path]:
    return {path for path in folder.iterdir() if not path.name.startswith(".")}


def test_definition_travels_with_the_model(tmp_path: Path) -> None:
    """A model carries the definition of its features."""
    features = default_features(["context.hour", CATEGORY, PERSON], bits=9)
    opened = open_model(write_model(tmp_path, {}, {"features": features.as_json()}))
    found = Features.of_json(opened.meta["features"])
    values: dict[str, object] = {"context.hour": 12, CATEGORY: "sushi", PERSON: "u-1"}
    assert list(features.keys(values)) == list(found.keys(values))
    assert list(features.plan.interaction) == list(found.plan.interaction)
