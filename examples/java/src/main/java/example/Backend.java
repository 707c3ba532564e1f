package example;

import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.type.LatLng;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Instant;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import offers.v1.Click;
import offers.v1.Context;
import offers.v1.Event;
import offers.v1.EventResult;
import offers.v1.EventServiceGrpc;
import offers.v1.GetOffersRequest;
import offers.v1.GetOffersResponse;
import offers.v1.Impression;
import offers.v1.Location;
import offers.v1.OfferServiceGrpc;
import offers.v1.Proposition;
import offers.v1.ReportEventsRequest;
import offers.v1.User;

/** A backend that asks for offers, shows them, and reports what the person does with them. One person's. */
public final class Backend {
  /** The first call connects. Once connected, 200 is usual. */
  private static final long TIMEOUT_MS = 5000;

  private final OfferServiceGrpc.OfferServiceBlockingStub offers;
  private final EventServiceGrpc.EventServiceBlockingStub events;
  private final User user;
  private Answer kept;

  Backend(ManagedChannel channel, String anonymousId) {
    offers = OfferServiceGrpc.newBlockingStub(channel);
    events = EventServiceGrpc.newBlockingStub(channel);
    user = User.newBuilder().setAnonymousId(anonymousId).build();
  }

  /** A response, kept for as long, and as far, as the server promises that it holds. */
  record Answer(LatLng point, GetOffersResponse response) {
    boolean holds(LatLng at) {
      Instant until = Instant.ofEpochSecond(response.getRefreshAfter().getSeconds());
      if (!Instant.now().isBefore(until)) {
        return false;
      }
      return !response.hasRefreshDistanceM() || metres(point, at) < response.getRefreshDistanceM();
    }
  }

  /** The great-circle distance; half a percent off the ellipsoid's, so a backend may want a margin. */
  static double metres(LatLng a, LatLng b) {
    double middle = Math.toRadians((a.getLatitude() + b.getLatitude()) / 2);
    double x = Math.toRadians(b.getLongitude() - a.getLongitude()) * Math.cos(middle);
    return 6_371_008.8 * Math.hypot(x, Math.toRadians(b.getLatitude() - a.getLatitude()));
  }

  /** Returns the offers for a point; asks the server only where the answer that is kept does not hold. */
  GetOffersResponse show(LatLng point) {
    boolean asked = kept == null || !kept.holds(point);
    if (asked) {
      Context context = Context.newBuilder().setLocation(Location.newBuilder().setPoint(point)).setUser(user).build();
      GetOffersRequest request = GetOffersRequest.newBuilder()
          .setContext(context)
          .setRequestId(UUID.randomUUID().toString()) // a retry with the same id counts once
          .build();
      kept = new Answer(point, offers.withDeadlineAfter(TIMEOUT_MS, TimeUnit.MILLISECONDS).getOffers(request));
    }
    System.out.printf("asked=%b until %s%n", asked, Instant.ofEpochSecond(kept.response.getRefreshAfter().getSeconds()));
    return kept.response;
  }

  /** Tells the server that the person saw, and opened, an offer. */
  List<EventResult> report(Proposition shown) {
    ReportEventsRequest request = ReportEventsRequest.newBuilder()
        .addEvents(event(shown).setImpression(Impression.getDefaultInstance()))
        .addEvents(event(shown).setClick(Click.getDefaultInstance()))
        .build();
    return events.withDeadlineAfter(TIMEOUT_MS, TimeUnit.MILLISECONDS).reportEvents(request).getResultsList();
  }

  private Event.Builder event(Proposition shown) {
    return Event.newBuilder().setEventId(UUID.randomUUID().toString()).setUser(user)
        .setOfferId(shown.getOfferId()).setPropositionId(shown.getPropositionId());
  }

  public static void main(String[] arguments) throws InvalidProtocolBufferException {
    ManagedChannel channel = Grpc.newChannelBuilder(arguments[0], InsecureChannelCredentials.create()).build();
    Backend backend = new Backend(channel, "example-java");
    LatLng republique = LatLng.newBuilder().setLatitude(48.8674).setLongitude(2.3636).build();
    backend.show(republique);
    GetOffersResponse response = backend.show(republique); // the answer that is kept still holds
    for (Proposition offer : response.getOffersList()) {
      System.out.printf("%d. %s %s%n", offer.getRank(), offer.getTitle(), offer.getReasonsList());
    }
    for (EventResult result : backend.report(response.getOffers(0))) {
      System.out.println("reported: " + !result.hasStatus());
    }
    try {
      backend.show(LatLng.newBuilder().setLatitude(91).build());
    } catch (StatusRuntimeException error) {
      for (var detail : StatusProto.fromThrowable(error).getDetailsList()) {
        if (detail.is(BadRequest.class)) {
          detail.unpack(BadRequest.class).getFieldViolationsList().forEach(
              one -> System.out.println("refused: " + one.getField() + ": " + one.getDescription()));
        }
      }
    }
    channel.shutdownNow();
  }
}
