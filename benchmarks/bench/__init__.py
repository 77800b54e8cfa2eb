"""`weir bench`: open-loop load against any Kafka-protocol broker, its measurements, and what to conclude from them."""
