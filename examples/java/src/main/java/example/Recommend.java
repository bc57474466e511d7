package example;

import com.google.gson.Gson;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import tandem.v1.RecommendationServiceGrpc;
import tandem.v1.RecommendationServiceOuterClass.RecommendRequest;

/** A user's recommendations: java -jar recommend.jar ADDRESS USER [SIZE]. */
public final class Recommend {
  private Recommend() {}

  public static void main(String[] args) throws IOException {
    if (args.length < 2) {
      System.err.println("usage: java -jar recommend.jar ADDRESS USER [SIZE]");
      System.exit(1);
    }
    ManagedChannel channel = connect(args[0]);
    int code = 0;
    try {
      print(channel, args[1], args.length > 2 ? Integer.parseInt(args[2]) : 10);
    } catch (StatusRuntimeException failed) {
      System.err.println(explain(failed));
      code = 1;
    } finally {
      channel.shutdownNow();
    }
    System.exit(code);
  }

  private static void print(ManagedChannel channel, String user, int size) {
    long timeout = Math.round(1000 * Double.parseDouble(getenv("TIMEOUT").orElse("2")));
    var stub = RecommendationServiceGrpc.newBlockingStub(channel);
    Optional<String> key = getenv("TANDEM_KEY");
    if (key.isPresent()) {
      var metadata = new Metadata();
      var name = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
      metadata.put(name, "Bearer " + key.get());
      stub = stub.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(metadata));
    }
    var request = RecommendRequest.newBuilder().setUserId(user).setMaxResults(size).build();
    var answer = stub.withDeadlineAfter(timeout, TimeUnit.MILLISECONDS).recommend(request);
    answer.getRecommendationsList().forEach(item -> System.out.println(item.getItemId()));
  }

  private static ManagedChannel connect(String address) throws IOException {
    ChannelCredentials transport = InsecureChannelCredentials.create();
    Optional<String> authority = getenv("AUTHORITY");
    if (authority.isPresent()) {
      transport =
          TlsChannelCredentials.newBuilder().trustManager(new File(authority.get())).build();
    }
    return Grpc.newChannelBuilder(address, transport)
        .defaultServiceConfig(serviceConfig())
        .enableRetry()
        .build();
  }

  @SuppressWarnings("unchecked")
  private static Map<String, ?> serviceConfig() throws IOException {
    try (var file = Recommend.class.getResourceAsStream("/service_config.json")) {
      return new Gson().fromJson(new InputStreamReader(file, StandardCharsets.UTF_8), Map.class);
    }
  }

  /** CODE REASON: message. The reason is for programs, and does not change. */
  private static String explain(StatusRuntimeException failed) {
    var status = failed.getStatus();
    return "%s %s: %s".formatted(status.getCode(), reasonOf(failed), status.getDescription());
  }

  private static String reasonOf(StatusRuntimeException failed) {
    var status = StatusProto.fromThrowable(failed);
    if (status == null) {
      return "";
    }
    for (Any detail : status.getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        try {
          return detail.unpack(ErrorInfo.class).getReason();
        } catch (InvalidProtocolBufferException broken) {
          return "";
        }
      }
    }
    return "";
  }

  private static Optional<String> getenv(String name) {
    return Optional.ofNullable(System.getenv(name)).filter(value -> !value.isEmpty());
  }
}
