// A backend that asks for offers, shows them, and reports what the person does with them.
package main

import (
	"context"
	"fmt"
	"log"
	"math"
	"os"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/type/latlng"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	offers "example.com/offers/gen/offers/v1"
)

// The first call connects. Once connected, 200 ms is usual.
const timeout = 5 * time.Second

// Answer keeps a response for as long, and as far, as the server promises that it holds.
type Answer struct {
	point    *latlng.LatLng
	response *offers.GetOffersResponse
}

// Holds tells whether the answer may still be shown at a point.
func (a *Answer) Holds(point *latlng.LatLng) bool {
	if a == nil || !time.Now().Before(a.response.GetRefreshAfter().AsTime()) {
		return false
	}
	return a.response.RefreshDistanceM == nil || metres(a.point, point) < a.response.GetRefreshDistanceM()
}

// Backend serves one app screen; it is one person's, so that it keeps one answer.
type Backend struct {
	offers offers.OfferServiceClient
	events offers.EventServiceClient
	user   *offers.User
	kept   *Answer
}

// Show returns the offers for a point, and whether the server was asked.
func (b *Backend) Show(ctx context.Context, point *latlng.LatLng) (*offers.GetOffersResponse, bool, error) {
	if b.kept.Holds(point) {
		return b.kept.response, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	response, err := b.offers.GetOffers(ctx, &offers.GetOffersRequest{
		Context:   &offers.Context{Location: &offers.Location{Point: point}, User: b.user},
		RequestId: uuid.NewString(), // a retry with the same id counts once
	})
	if err != nil {
		return nil, true, err
	}
	b.kept = &Answer{point, response}
	return response, true, nil
}

// Report tells the server that the person saw, and opened, an offer.
func (b *Backend) Report(ctx context.Context, shown *offers.Proposition) ([]*offers.EventResult, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	event := func() *offers.Event {
		return &offers.Event{EventId: uuid.NewString(), User: b.user, OfferId: shown.OfferId, PropositionId: shown.PropositionId}
	}
	impression, click := event(), event()
	impression.Kind = &offers.Event_Impression{Impression: &offers.Impression{}}
	click.Kind = &offers.Event_Click{Click: &offers.Click{}}
	response, err := b.events.ReportEvents(ctx, &offers.ReportEventsRequest{Events: []*offers.Event{impression, click}})
	return response.GetResults(), err
}

func main() {
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	user := &offers.User{Identity: &offers.User_AnonymousId{AnonymousId: "example-go"}}
	backend := &Backend{offers: offers.NewOfferServiceClient(connection), events: offers.NewEventServiceClient(connection), user: user}
	for range 2 { // the second time, the answer that is kept still holds
		response, asked, err := backend.Show(context.Background(), &latlng.LatLng{Latitude: 48.8674, Longitude: 2.3636})
		check(err)
		fmt.Printf("asked=%t until %s\n", asked, response.RefreshAfter.AsTime().Format(time.RFC3339))
		for _, offer := range response.Offers {
			fmt.Printf("%d. %s %v\n", offer.Rank, offer.Title, offer.Reasons)
		}
	}
	results, err := backend.Report(context.Background(), backend.kept.response.Offers[0])
	check(err)
	for _, result := range results {
		fmt.Println("reported:", result.Status == nil)
	}
	_, _, err = backend.Show(context.Background(), &latlng.LatLng{Latitude: 91})
	for _, detail := range status.Convert(err).Details() {
		if request, ok := detail.(*errdetails.BadRequest); ok {
			for _, violation := range request.FieldViolations {
				fmt.Printf("refused: %s: %s\n", violation.Field, violation.Description)
			}
		}
	}
}

// metres is the great-circle distance; half a percent off the ellipsoid's, so a backend may want a margin.
func metres(a, b *latlng.LatLng) float64 {
	const radians, earth = math.Pi / 180, 6371008.8
	x := (b.Longitude - a.Longitude) * radians * math.Cos((a.Latitude+b.Latitude)/2*radians)
	return earth * math.Hypot(x, (b.Latitude-a.Latitude)*radians)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
