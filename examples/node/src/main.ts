// A backend that asks for offers, shows them, and reports what the person does with them.
import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { BadRequestSchema } from "./gen/google/rpc/error_details_pb.js";
import { UserSchema } from "./gen/offers/v1/context_pb.js";
import { EventService, type EventResult } from "./gen/offers/v1/event_service_pb.js";
import {
  OfferService,
  ReasonCode,
  type GetOffersResponse,
  type Proposition,
} from "./gen/offers/v1/offer_service_pb.js";

/** The first call connects. Once connected, 200 is usual. */
const timeoutMs = 5000;

type Point = { latitude: number; longitude: number };

/** A response, kept for as long, and as far, as the server promises that it holds. */
type Answer = { point: Point; response: GetOffersResponse };

function holds(answer: Answer, point: Point): boolean {
  const { refreshAfter, refreshDistanceM } = answer.response;
  if (!refreshAfter || timestampDate(refreshAfter) <= new Date()) return false;
  return refreshDistanceM === undefined || metres(answer.point, point) < refreshDistanceM;
}

/** The great-circle distance; half a percent off the ellipsoid's, so a backend may want a margin. */
function metres(a: Point, b: Point): number {
  const radians = Math.PI / 180;
  const x = (b.longitude - a.longitude) * radians * Math.cos(((a.latitude + b.latitude) / 2) * radians);
  return 6_371_008.8 * Math.hypot(x, (b.latitude - a.latitude) * radians);
}

/** Serves one app screen; it is one person's, so that it keeps one answer. */
class Backend {
  private readonly offers;
  private readonly events;
  private readonly user;
  private kept?: Answer;

  constructor(target: string, anonymousId: string) {
    const transport = createGrpcTransport({ baseUrl: `http://${target}`, defaultTimeoutMs: timeoutMs });
    this.offers = createClient(OfferService, transport);
    this.events = createClient(EventService, transport);
    this.user = create(UserSchema, { identity: { case: "anonymousId", value: anonymousId } });
  }

  /** Returns the offers for a point, and whether the server was asked. Throws ConnectError. */
  async show(point: Point): Promise<{ response: GetOffersResponse; asked: boolean }> {
    if (this.kept && holds(this.kept, point)) return { response: this.kept.response, asked: false };
    const response = await this.offers.getOffers({
      context: { location: { point }, user: this.user },
      requestId: randomUUID(), // a retry with the same id counts once
    });
    this.kept = { point, response };
    return { response, asked: true };
  }

  /** Tells the server that the person saw, and opened, an offer. Throws ConnectError. */
  async report(shown: Proposition): Promise<EventResult[]> {
    const event = { user: this.user, offerId: shown.offerId, propositionId: shown.propositionId };
    const { results } = await this.events.reportEvents({
      events: [
        { ...event, eventId: randomUUID(), kind: { case: "impression", value: {} } },
        { ...event, eventId: randomUUID(), kind: { case: "click", value: {} } },
      ],
    });
    return results;
  }
}

const target = process.argv[2];
if (!target) {
  console.error("usage: npm start HOST:PORT");
  process.exit(2);
}
const backend = new Backend(target, "example-node");
const republique = { latitude: 48.8674, longitude: 2.3636 };

for (const _ of [1, 2]) {
  // The second time, the answer that is kept still holds.
  const { response, asked } = await backend.show(republique);
  console.log(`asked=${asked} until ${timestampDate(response.refreshAfter!).toISOString()}`);
  for (const offer of response.offers) {
    console.log(`${offer.rank}. ${offer.title} ${offer.reasons.map((reason) => ReasonCode[reason]).join(" ")}`);
  }
}

const { response } = await backend.show(republique);
for (const result of await backend.report(response.offers[0])) console.log(`reported: ${!result.status}`);

try {
  await backend.show({ latitude: 91, longitude: 0 });
} catch (error) {
  if (!(error instanceof ConnectError) || error.code !== Code.InvalidArgument) throw error;
  for (const { fieldViolations } of error.findDetails(BadRequestSchema)) {
    for (const violation of fieldViolations) console.log(`refused: ${violation.field}: ${violation.description}`);
  }
}
