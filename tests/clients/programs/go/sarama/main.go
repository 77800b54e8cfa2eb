// sarama, the other widely used Go client.
package main

import (
	"context"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"weir/tests/clients/contract"
)

func main() { contract.Main(produce, consume, group) }

func settings() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.ClientID = "weir-tests"
	return config
}

func produce(_ context.Context, a contract.Arguments) error {
	config := settings()
	config.Producer.Compression = map[string]sarama.CompressionCodec{
		"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
		"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}[a.Codec]
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	config.Producer.Return.Successes = true
	config.Producer.Flush.Frequency = 20 * time.Millisecond
	config.Net.MaxOpenRequests = 1
	producer, err := sarama.NewSyncProducer([]string{a.Bootstrap}, config)
	if err != nil {
		return err
	}
	defer producer.Close()
	var messages []*sarama.ProducerMessage
	for i := 0; i < a.Count; i++ {
		messages = append(messages, &sarama.ProducerMessage{
			Topic: a.Topic, Key: sarama.StringEncoder(a.Key(i)), Value: sarama.StringEncoder(a.Value(i)),
			Timestamp: time.UnixMilli(a.Timestamp(i)),
			Headers: []sarama.RecordHeader{{Key: []byte("tag"), Value: []byte(a.Tag)},
				{Key: []byte("seq"), Value: []byte(fmt.Sprint(i))}},
		})
	}
	return producer.SendMessages(messages)
}

func describe(m *sarama.ConsumerMessage) contract.Record {
	headers := map[string]string{}
	for _, h := range m.Headers {
		headers[string(h.Key)] = string(h.Value)
	}
	return contract.Record{P: m.Partition, O: m.Offset, K: string(m.Key), V: string(m.Value), H: headers,
		T: m.Timestamp.UnixMilli()}
}

func consume(ctx context.Context, a contract.Arguments) ([]contract.Record, error) {
	consumer, err := sarama.NewConsumer([]string{a.Bootstrap}, settings())
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	partitions, err := consumer.Partitions(a.Topic)
	if err != nil {
		return nil, err
	}
	all := make(chan *sarama.ConsumerMessage)
	for _, p := range partitions {
		one, err := consumer.ConsumePartition(a.Topic, p, sarama.OffsetOldest)
		if err != nil {
			return nil, err
		}
		go func() {
			for m := range one.Messages() {
				select {
				case all <- m:
				case <-ctx.Done():
				}
			}
		}()
		defer one.AsyncClose()
	}
	var out []contract.Record
	for len(out) < a.Count {
		select {
		case m := <-all:
			out = append(out, describe(m))
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d records read: %w", len(out), a.Count, ctx.Err())
		}
	}
	return out, nil
}

// handler reads until it has enough; claims of several partitions run at the same time and share one channel.
type handler struct {
	messages chan claimed
	done     <-chan struct{}
}

type claimed struct {
	session sarama.ConsumerGroupSession
	message *sarama.ConsumerMessage
}

func (handler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for m := range claim.Messages() {
		select {
		case h.messages <- claimed{session, m}:
		case <-h.done:
			return nil
		case <-session.Context().Done():
			return nil
		}
	}
	return nil
}

func group(ctx context.Context, a contract.Arguments) ([]contract.Record, error) {
	config := settings()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Session.Timeout = 10 * time.Second
	member, err := sarama.NewConsumerGroup([]string{a.Bootstrap}, a.Group, config)
	if err != nil {
		return nil, err
	}
	defer member.Close()
	inner, stop := context.WithCancel(ctx)
	defer stop()
	h := handler{messages: make(chan claimed), done: inner.Done()}
	ended := make(chan error, 1)
	go func() {
		for inner.Err() == nil {
			if err := member.Consume(inner, []string{a.Topic}, h); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	var out []contract.Record
	for len(out) < a.Count {
		select {
		case c := <-h.messages:
			c.session.MarkMessage(c.message, "")
			out = append(out, describe(c.message))
			if len(out) == a.Count {
				c.session.Commit()
			}
		case err := <-ended:
			return nil, err
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d records read: %w", len(out), a.Count, ctx.Err())
		}
	}
	stop()
	return out, <-ended
}
