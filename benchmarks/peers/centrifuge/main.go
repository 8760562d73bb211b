// A chat server on centrifuge, the engine of Centrifugo: the same protocol, hub and memory broker.
//
//	chatd-peer-centrifuge PORT SECRET [BROKER]
//	chatd-peer-centrifuge version
//
// Clients connect to /connection/websocket with a token (HS256), subscribe to any channel with
// history and recovery, and publish to any channel. With BROKER, the HOST:PORT of a Valkey or Redis, several of
// them are one chat.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/centrifugal/centrifuge"
	"github.com/golang-jwt/jwt/v5"
)

const history = 1000 // messages a channel, kept for recovery

func main() {
	if os.Args[1] == "version" {
		if build, ok := debug.ReadBuildInfo(); ok {
			for _, module := range build.Deps {
				if module.Path == "github.com/centrifugal/centrifuge" {
					fmt.Println(module.Version)
				}
			}
		}
		return
	}
	port, secret := os.Args[1], []byte(os.Args[2])
	node, err := centrifuge.New(centrifuge.Config{
		ClientChannelLimit:              1000,
		ClientQueueMaxSize:              64 * 1024 * 1024,
		ClientExpiredCloseDelay:         time.Hour,
		ClientExpiredSubCloseDelay:      time.Hour,
		ClientPresenceUpdateInterval:    time.Hour,
		ClientChannelPositionCheckDelay: time.Hour,
	})
	if err != nil {
		log.Fatal(err)
	}
	node.OnConnecting(func(_ context.Context, event centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		claims := jwt.RegisteredClaims{}
		_, err := jwt.ParseWithClaims(event.Token, &claims, func(*jwt.Token) (any, error) { return secret, nil },
			jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired())
		if err != nil {
			return centrifuge.ConnectReply{}, centrifuge.DisconnectInvalidToken
		}
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: claims.Subject}}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, answer centrifuge.SubscribeCallback) {
			answer(centrifuge.SubscribeReply{
				Options: centrifuge.SubscribeOptions{EnableRecovery: true},
			}, nil)
		})
		client.OnHistory(func(_ centrifuge.HistoryEvent, answer centrifuge.HistoryCallback) {
			answer(centrifuge.HistoryReply{}, nil)
		})
		client.OnPublish(func(event centrifuge.PublishEvent, answer centrifuge.PublishCallback) {
			result, err := node.Publish(event.Channel, event.Data, centrifuge.WithHistory(history, time.Hour))
			answer(centrifuge.PublishReply{Result: &result}, err)
		})
	})
	if len(os.Args) > 3 {
		shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{Address: os.Args[3]})
		if err != nil {
			log.Fatal(err)
		}
		broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{
			Shards: []*centrifuge.RedisShard{shard},
		})
		if err != nil {
			log.Fatal(err)
		}
		node.SetBroker(broker)
	}
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	handler := centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		CheckOrigin:    func(*http.Request) bool { return true },
		PingPongConfig: centrifuge.PingPongConfig{PingInterval: time.Hour, PongTimeout: time.Minute},
	})
	http.Handle("/connection/websocket", handler)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))
}
