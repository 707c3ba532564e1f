"""Audiences, limits and creatives of offers are in the compiled snapshot."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from offers.catalogue.document import read
from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.publish import publish
from offers.catalogue.snapshot import (
    NO_AUDIENCE,
    NO_BUDGET,
    NO_CAPS,
    NO_NAME,
    NO_SCHEDULE,
    OFFER,
    Snapshot,
    open_snapshot,
)
from offers.model.keys import key_of, keys_of
from offers.v1.event_pb2 import EVENT_KIND_CLICK, EVENT_KIND_DISMISSAL, EVENT_KIND_IMPRESSION
from offers.v1.limits_pb2 import CALENDAR_PERIOD_DAY, CALENDAR_PERIOD_WEEK, PACING_AS_FAST_AS_POSSIBLE, PACING_EVEN
from offers.v1.offer_service_pb2 import Proposition

HEAD = "catalog_id: shop\ntime_zone: Europe/Paris\ncountry_code: FR\n"
SEGMENTS = """
segments:
- {segment_id: s0, expression: "context.channel == 'a'"}
- {segment_id: s1, expression: "context.channel == 'b'"}
- {segment_id: s2, expression: "context.channel == 'c'"}
- {segment_id: s3, expression: "context.channel == 'd'"}
"""
OFFER_OF = "{{offer_id: {0}, title: {0}, benefit: {{custom: a}}, target: {{everywhere: true}}{1}}}"


def compiled(folder: Path, text: str, **offers: str) -> Snapshot:
    """Publish a catalogue of `text` and offers shown everywhere, with the given fields."""
    lines = [f"- {OFFER_OF.format(name, f', {more}' if more else '')}" for name, more in offers.items()]
    document = folder / "catalog.yaml"
    document.write_text("\n".join([HEAD, text, "offers:", *lines]))
    return open_snapshot(publish(document, folder / "data").path)


def number_of(snapshot: Snapshot, offer_id: str) -> int:
    """Return the number of an offer, found by its key."""
    key, columns = key_of("offer", "shop", offer_id), snapshot.columns
    by_key = columns["offer_by_key"]
    keys = columns["offer"]["key"][by_key].tolist()
    assert sorted(keys) == keys
    return int(by_key[keys.index(key)])


def audience_of(snapshot: Snapshot, offer_id: str) -> dict[str, Any] | None:
    """Return an offer's audience in names and lists; None: it has none."""
    number = int(snapshot.columns["offer"]["audience"][number_of(snapshot, offer_id)])
    return None if number == NO_AUDIENCE else told(snapshot, number)


def told(snapshot: Snapshot, number: int) -> dict[str, Any]:
    """Return an audience in names and lists."""
    columns = snapshot.columns
    row = dict(zip(columns["audience"].dtype.names or (), columns["audience"][number].tolist(), strict=True))
    ends = ("any_first", "all_first", "none_first", "wanted_first", "wanted_last")
    segments = [snapshot.meta["segments"][n]["id"] for n in columns["audience_segment"].tolist()]
    lists = [segments[row[a] : row[b]] for a, b in pairwise(ends)]
    experiments = snapshot.meta["experiments"]
    variants = columns["audience_variant"].tolist()[row["variant_first"] : row["variant_last"]]
    policies = columns["audience_policy"].tolist()[row["policy_first"] : row["policy_last"]]
    return {
        "segments": lists,
        "variants": [(experiments[e]["id"], experiments[e]["variants"][v]["id"]) for e, v in variants],
        "policies": [snapshot.meta["policies"][n]["id"] for n in policies],
        "campaign": row["campaign"],
        "category": row["category"],
        "budget": row["budget"],
    }


def caps_of(snapshot: Snapshot, number: int) -> list[tuple[int, ...]] | None:
    """Return the caps of a list: seconds, count, period, kind."""
    if number == NO_CAPS:
        return None
    first, last = snapshot.columns["cap_list_first"][number : number + 2].tolist()
    return list(snapshot.columns["cap"].tolist()[first:last])


def test_an_offer_that_says_nothing_of_people_has_nothing(tmp_path: Path) -> None:
    """Segments, campaigns, limits and policies that do not concern an offer leave no trace in it."""
    snapshot = compiled(
        tmp_path,
        SEGMENTS
        + """
campaigns: [{campaign_id: c, frequency_caps: [{max_count: 1}]}]
category_limits: [{category: soup, frequency_caps: [{max_count: 1}]}]
contact_policies: [{contact_policy_id: p, campaign_ids: [c], categories: [soup], cool_down: 5s}]
""",
        plain="",
        other="category: bread",
    )
    assert [NO_AUDIENCE, NO_AUDIENCE] == snapshot.columns["offer"]["audience"].tolist()
    assert [NO_CAPS, NO_CAPS] == snapshot.columns["offer"]["caps"].tolist()
    assert 64 == OFFER.itemsize


def test_audiences_are_kept_once_each(tmp_path: Path) -> None:
    """Offers of the same audience share a row, in whatever order they name its segments; empty ones have none."""
    snapshot = compiled(
        tmp_path,
        SEGMENTS + "experiments: [{experiment_id: e, variants: [{variant_id: x}, {variant_id: y, weight: 2.5}]}]",
        one="audience: {any_segment_ids: [s2, s0], all_segment_ids: [s1], none_segment_ids: [s3]}",
        two="audience: {any_segment_ids: [s0, s2, s0], all_segment_ids: [s1], none_segment_ids: [s3]}",
        three="audience: {variants: [{experiment_id: e, variant_id: y}]}",
        none="audience: {}",
    )
    rule = {"segments": [["s0", "s2"], ["s1"], ["s3"], ["s0", "s1", "s2", "s3"]], "variants": [], "policies": []}
    unlimited = {"campaign": NO_NAME, "category": NO_NAME, "budget": NO_BUDGET}
    assert rule | unlimited == audience_of(snapshot, "one")
    numbers = snapshot.columns["offer"]["audience"]
    assert numbers[number_of(snapshot, "one")] == numbers[number_of(snapshot, "two")]
    by_variant = {"segments": [[], [], [], []], "variants": [("e", "y")], "policies": []}
    assert by_variant | unlimited == audience_of(snapshot, "three")
    assert audience_of(snapshot, "none") is None
    (experiment,) = snapshot.meta["experiments"]
    variants = [{"id": "x", "weight": 1.0, "strategy": NO_NAME}, {"id": "y", "weight": 2.5, "strategy": NO_NAME}]
    assert variants == experiment["variants"]
    assert ("", 1.0, 0, NEVER, []) == tuple(experiment[key] for key in ("layer", "share", "start", "end", "placements"))


def test_wanted_are_all_segments_that_anything_of_an_offer_names(tmp_path: Path) -> None:
    """A campaign's audience and those of creatives are rows of their own, and their segments wanted by the offer."""
    snapshot = compiled(
        tmp_path,
        SEGMENTS + "campaigns: [{campaign_id: c, audience: {none_segment_ids: [s3]}, holdout: 0.25}]",
        one="campaign_id: c, audience: {any_segment_ids: [s0]}, "
        "creative_variants: [{creative: {body: b}, audience: {all_segment_ids: [s2]}}]",
        two="campaign_id: c",
    )
    one, two = audience_of(snapshot, "one"), audience_of(snapshot, "two")
    assert one is not None
    assert two is not None
    assert [["s0"], [], [], ["s0", "s2", "s3"]] == one["segments"]
    assert [[], [], [], ["s3"]] == two["segments"]
    assert (0, 0) == (one["campaign"], two["campaign"])
    ((key, holdout, caps, audience, budget),) = snapshot.columns["campaign"].tolist()
    assert (key_of("campaign", "shop", "c"), 0.25, NO_CAPS, NO_BUDGET) == (key, holdout, caps, budget)
    assert [[], [], ["s3"], ["s3"]] == told(snapshot, audience)["segments"]
    assert ["c"] == snapshot.meta["campaigns"]


def test_caps_are_lists_of_their_own(tmp_path: Path) -> None:
    """A cap is of a kind of event, ever or over a rolling or calendar window in its time zone; a list is kept once."""
    caps = "[{max_count: 2, rolling: 60s}, {max_count: 3, kind: EVENT_KIND_CLICK}]"
    snapshot = compiled(
        tmp_path,
        f"""
placements: [{{placement_id: home, frequency_caps: {caps}}}, {{placement_id: feed}}]
category_limits: [{{category: soup, frequency_caps: [{{max_count: 4, calendar: CALENDAR_PERIOD_DAY}}]}}]
campaigns:
- {{campaign_id: c, frequency_caps: [{{max_count: 5, calendar: CALENDAR_PERIOD_WEEK, time_zone: Asia/Tokyo}}]}}
""",
        one=f"frequency_caps: {caps}, category: soup",
        two="frequency_caps: [{max_count: 6, calendar: CALENDAR_PERIOD_DAY, time_zone: Europe/Paris}], campaign_id: c",
    )
    offers, meta = snapshot.columns["offer"]["caps"], snapshot.meta
    wanted = [(60, 2, NO_NAME, EVENT_KIND_IMPRESSION, NO_NAME), (0, 3, NO_NAME, EVENT_KIND_CLICK, NO_NAME)]
    assert wanted == caps_of(snapshot, offers[number_of(snapshot, "one")])
    assert {"home": int(offers[number_of(snapshot, "one")])} == meta["placement_caps"]
    assert {"home": key_of("placement", "shop", "home")} == meta["placement_keys"]
    paris, tokyo = [CALENDAR_PERIOD_DAY, "Europe/Paris"], [CALENDAR_PERIOD_WEEK, "Asia/Tokyo"]
    assert sorted([paris, tokyo]) == sorted(meta["periods"])
    ((key, category_caps),) = snapshot.columns["category_limit"].tolist()
    assert key_of("category", "shop", "soup") == key
    assert [(0, 4, meta["periods"].index(paris), EVENT_KIND_IMPRESSION, NO_NAME)] == caps_of(snapshot, category_caps)
    assert [(0, 6, meta["periods"].index(paris), 1, NO_NAME)] == caps_of(snapshot, offers[number_of(snapshot, "two")])
    assert [(0, 5, meta["periods"].index(tokyo), 1, NO_NAME)] == caps_of(
        snapshot, snapshot.columns["campaign"]["caps"][0]
    )
    soup = audience_of(snapshot, "one")
    assert soup is not None
    assert (0, ["soup"]) == (soup["category"], meta["category_limits"])


@pytest.mark.parametrize(
    ("covers", "covered"),
    [
        ("", {"in-c", "in-d", "soup", "plain"}),
        ("campaign_ids: [c]", {"in-c"}),
        ("categories: [soup]", {"soup"}),
        ("campaign_ids: [d]\n  categories: [soup]", {"in-d", "soup"}),
    ],
)
def test_a_policy_covers_offers_of_its_campaigns_and_categories(tmp_path: Path, covers: str, covered: set[str]) -> None:
    """A cool-down is a cap of the policy; a cool-down for a single offer is a cap of each offer covered."""
    snapshot = compiled(
        tmp_path,
        f"""
campaigns: [{{campaign_id: c}}, {{campaign_id: d}}]
contact_policies:
- contact_policy_id: calm
  frequency_caps: [{{max_count: 9, rolling: 86400s}}]
  quiet_hours: "22:00-08:00; PH off"
  offer_cool_down: 100s
  cool_down: 10s
  channels: [app, web]
  {covers}
""",
        **{"in-c": "campaign_id: c", "in-d": "campaign_id: d", "soup": "category: soup", "plain": ""},
    )
    for name in ("in-c", "in-d", "soup", "plain"):
        audience = audience_of(snapshot, name)
        assert (["calm"] if name in covered else []) == (audience or {"policies": []})["policies"]
        caps = caps_of(snapshot, snapshot.columns["offer"]["caps"][number_of(snapshot, name)])
        cool_down = [(100, 1, NO_NAME, EVENT_KIND_DISMISSAL, int(snapshot.columns["policy"]["channels"][0]))]
        assert (cool_down if name in covered else None) == caps
    ((key, caps, quiet, terms),) = snapshot.columns["policy"].tolist()
    assert key_of("contact_policy", "shop", "calm") == key
    own = [(86_400, 9, NO_NAME, 1, NO_NAME), (10, 1, NO_NAME, EVENT_KIND_DISMISSAL, NO_NAME)]
    assert own == caps_of(snapshot, caps)
    assert [[["22:00-08:00; PH off"], "", "FR", [], 0]] == snapshot.meta["schedules"][quiet]
    assert [[], [], [], ["app", "web"]] == snapshot.meta["terms"][terms]
    assert [{"id": "calm", "channels": ["app", "web"]}] == snapshot.meta["policies"]


def test_a_policy_without_rules_has_none(tmp_path: Path) -> None:
    """A policy that names no hours and no caps has no schedule and no list."""
    snapshot = compiled(tmp_path, "contact_policies: [{contact_policy_id: calm}]", one="")
    ((_, caps, quiet, _),) = snapshot.columns["policy"].tolist()
    assert (NO_CAPS, NO_SCHEDULE) == (caps, quiet)


def test_windows_of_campaigns_cut_those_of_their_offers(tmp_path: Path) -> None:
    """An offer is shown inside its own windows and its campaign's; where they do not meet, never."""
    window = "{{start_time: 2026-01-{0:02}T00:00:00Z, end_time: 2026-01-{1:02}T00:00:00Z}}".format
    snapshot = compiled(
        tmp_path,
        f"campaigns: [{{campaign_id: c, window: {window(10, 20)}}}, {{campaign_id: open}}]",
        none="campaign_id: c",
        inside=f"campaign_id: c, availability: {{windows: [{window(12, 14)}]}}",
        across=f"campaign_id: c, availability: {{windows: [{window(1, 12)}, {window(15, 25)}, {window(26, 28)}]}}",
        never=f"campaign_id: c, availability: {{windows: [{window(1, 5)}]}}",
        free="campaign_id: open",
    )
    entries = snapshot.columns["entry"]
    day = 1_767_225_600 - 86_400

    def spans(name: str) -> tuple[int, int, list[tuple[int, int]]]:
        (number,) = (entries["offer"] == number_of(snapshot, name)).nonzero()[0]
        entry, gate = entries[number], snapshot.columns["gate"][number]
        several = []
        if (place := int(entry["windows"])) >= 0:
            while snapshot.columns["window_end"][place]:
                one = int(snapshot.columns["window_start"][place]), int(snapshot.columns["window_end"][place])
                several.append(((one[0] - day) // 86_400, (one[1] - day) // 86_400))
                place += 1
        return int(gate["window_start"]), int(gate["window_end"]), several

    assert (day + 10 * 86_400, day + 20 * 86_400, []) == spans("none")
    assert (day + 12 * 86_400, day + 14 * 86_400, []) == spans("inside")
    assert (day + 10 * 86_400, day + 20 * 86_400, [(10, 12), (15, 20)]) == spans("across")
    assert (0, 0, []) == spans("never")
    assert (0, NEVER, []) == spans("free")


def test_budgets_know_their_limits_and_their_time(tmp_path: Path) -> None:
    """Units and money, in all and per period, and the span of time over which a plan spreads them."""
    snapshot = compiled(
        tmp_path,
        """
campaigns:
- campaign_id: c
  window: {start_time: 2026-01-01T00:00:00Z, end_time: 2026-02-01T00:00:00Z}
  budget: {amount: {currency_code: EUR, units: 7, nanos: 10000000}, pacing: PACING_EVEN}
""",
        one="campaign_id: c, budget: {units: 5, pacing: PACING_EVEN}, "
        "availability: {windows: [{start_time: 2026-01-10T00:00:00Z}]}",
        two="budget: {period: CALENDAR_PERIOD_WEEK, period_units: 3, time_zone: Asia/Tokyo, "
        "period_amount: {currency_code: JPY, units: 900}}",
    )
    plain = {"units": -1, "micros": -1, "currency": "", "period": 0, "period_units": -1, "period_micros": -1}
    plain |= {"zone": "Europe/Paris", "pacing": PACING_AS_FAST_AS_POSSIBLE, "start": 0, "end": NEVER}
    even, yen = {"pacing": PACING_EVEN}, {"period_micros": 900_000_000, "currency": "JPY"}
    january, tenth, february = 1_767_225_600, 1_768_003_200, 1_769_904_000
    wanted: dict[str, dict[str, Any]] = {
        "campaign:c": {"micros": 7_010_000, "currency": "EUR", "start": january, "end": february, **even},
        "offer:one": {"units": 5, "start": tenth, "end": february, **even},
        "offer:two": {"period": CALENDAR_PERIOD_WEEK, "period_units": 3, **yen, "zone": "Asia/Tokyo"},
    }
    budgets = snapshot.meta["budgets"]
    assert {key: {"key": key} | plain | more for key, more in wanted.items()} == {one["key"]: one for one in budgets}
    assert "campaign:c" == budgets[snapshot.columns["campaign"]["budget"][0]]["key"]
    for name in ("one", "two"):
        audience = audience_of(snapshot, name)
        assert audience is not None
        assert f"offer:{name}" == budgets[audience["budget"]]["key"]


def test_creatives_stand_in_the_order_they_are_tried(tmp_path: Path) -> None:
    """Creatives with an audience are first, then those with a language, then those with a channel; each is complete."""
    content = (
        "creative: {body: Own, call_to_action: Go}, creative_variants: ["
        "{creative: {body: All}}, "
        "{creative: {body: Channel}, channels: [web, app]}, "
        "{creative: {body: Language}, language_codes: [pt-BR, fr]}, "
        "{creative: {body: Audience}, audience: {all_segment_ids: [s1]}, title: For you, creative_id: yours}, "
        "{creative: {body: Both}, audience: {all_segment_ids: [s1]}, language_codes: [fr]}, "
        "{creative: {call_to_action: Now}, audience: {variants: []}}]"
    )
    snapshot = compiled(tmp_path, SEGMENTS, plain="", one=content, two="creative_variants: [{creative: {body: b}}]")
    columns, terms = snapshot.columns, snapshot.meta["creative_terms"]
    rows = [row for row in columns["creative"] if row["offer"] == number_of(snapshot, "one")]
    shown = [
        Proposition.FromString(columns["creative_wire"][row["wire_first"] :][: row["wire_size"]].tobytes())
        for row in rows
    ]
    assert ["5", "yours", "3", "2", "1", "6"] == [one.creative_id for one in shown]
    bodies = [(one.creative.body, one.creative.call_to_action) for one in shown]
    assert [
        ("Both", "Go"),
        ("Audience", "Go"),
        ("Language", "Go"),
        ("Channel", "Go"),
        ("All", "Go"),
        ("Own", "Now"),
    ] == bodies
    assert ["one", "For you", "one", "one", "one", "one"] == [one.title for one in shown]
    assert {"one"} == {one.offer_id for one in shown}
    wanted = [[["fr"], []], [[], []], [["fr", "pt-br"], []], [[], ["app", "web"]], [[], []], [[], []]]
    assert wanted == [terms[row["terms"]] for row in rows]
    assert [True, True, False, False, False, False] == [row["audience"] != NO_AUDIENCE for row in rows]
    assert sorted(columns["creative"]["offer"].tolist()) == columns["creative"]["offer"].tolist()
    assert 7 == len(columns["creative"])


def test_the_wire_names_the_campaign(tmp_path: Path) -> None:
    """The constant fields of a proposition include the campaign."""
    snapshot = compiled(tmp_path, "campaigns: [{campaign_id: c}]", one="campaign_id: c")
    assert "c" == Proposition.FromString(snapshot.columns["wire"].tobytes()).campaign_id


def test_keys_tell_kinds_catalogues_and_names_apart() -> None:
    """A key is a hash of all three, the same on every machine and however many are made at once."""
    keys = {
        key_of(*parts)
        for parts in (("offer", "a", "b"), ("campaign", "a", "b"), ("offer", "ab", ""), ("offer", "a", "c"))
    }
    assert 4 == len(keys)
    assert (key_of("offer", "a", "b"), key_of("offer", "a", "é")) == keys_of("offer", "a", ("b", "é"))
    assert 2541716803671079561 == key_of("offer", "shop", "lunch")


def test_sensitive_uses_are_told_whenever_a_catalogue_is_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log has every segment that may use sensitive attributes, with reason and name, also of an unchanged one."""
    text = """
sensitive_attributes: [health]
segments:
- segment_id: flu
  expression: profile.attributes.health == 'ill'
  sensitive_use: {attributes: [health], reason: Shots for those at risk, approved_by: The board}
- {segment_id: plain, expression: profile.attributes.city == 'Lyon'}
"""
    for _ in range(2):
        snapshot = compiled(tmp_path, text, one="")
        logged = capsys.readouterr().out
        for part in ("sensitive_attribute_used", "flu", "health", "Shots for those at risk", "The board"):
            assert part in logged
        assert "plain" not in logged
    assert [["health"], []] == [segment["sensitive"] for segment in snapshot.meta["segments"]]


def test_the_demo_has_some_of_everything(tmp_path: Path) -> None:
    """The demo shows segments, campaigns, caps, budgets, policies, an experiment and creatives."""
    from offers.demo import catalogue

    (fragment,) = read(catalogue(), [])
    snapshot = open_snapshot(publish(catalogue(), tmp_path).path)
    for name in ("segments", "campaigns", "budgets", "policies", "experiments", "category_limits"):
        assert snapshot.meta[name]
    assert len(fragment.catalog.offers) > (snapshot.columns["offer"]["audience"] != NO_AUDIENCE).sum() > 3
    assert len(snapshot.columns["creative"]) >= 3
