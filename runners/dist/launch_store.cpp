#include "runners/dist/launch_store.hpp"

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <chrono>

#include "registry/error.hpp"
#include "registry/log.hpp"

namespace seg {
namespace {

constexpr const char* kLaunchersDone = "segcore/launchers_done";
// Of another machine's store: a launcher must go on forwarding signals.
constexpr auto kStoreTimeout = std::chrono::seconds(5);

c10d::TCPStoreOptions launch_store_options(int port) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(port);
  options.waitWorkers = false;
  options.timeout = kStoreTimeout;
  return options;
}

}  // namespace

struct LaunchStore::Connection {
  std::string host;
  int port = 0;
  c10::intrusive_ptr<c10d::TCPStore> store;

  /// \return `failed` where the store cannot be reached.
  template <class Call>
  int use(const Call& call, int failed) {
    try {
      if (!store) store = c10::make_intrusive<c10d::TCPStore>(host, launch_store_options(port));
      return call(*store);
    } catch (const c10::Error& e) {
      log::debug("the store at ", host, ":", port, ": ", e.what_without_backtrace());
      return failed;
    }
  }
};

LaunchStore::LaunchStore(std::unique_ptr<Connection> connection)
    : connection_(std::move(connection)) {}
LaunchStore::~LaunchStore() = default;
LaunchStore::LaunchStore(LaunchStore&&) noexcept = default;

LaunchStore LaunchStore::serve(int port) {
  auto connection = std::make_unique<Connection>();
  connection->host = "127.0.0.1";
  c10d::TCPStoreOptions options = launch_store_options(port);
  options.isServer = true;
  try {
    connection->store = c10::make_intrusive<c10d::TCPStore>(connection->host, options);
  } catch (const c10::Error& e) {
    const std::string why = e.what_without_backtrace();
    if (why.find("EADDRINUSE") == std::string::npos) throw;
    throw UsageError(text("port ", port,
                          ", by which the processes meet, is in use, perhaps by another run: set "
                          "MASTER_PORT to a free one on all machines"));
  }
  connection->port = connection->store->getPort();
  return LaunchStore(std::move(connection));
}

LaunchStore LaunchStore::at(std::string host, int port) {
  auto connection = std::make_unique<Connection>();
  connection->host = std::move(host);
  connection->port = port;
  return LaunchStore(std::move(connection));
}

int LaunchStore::port() const { return connection_->port; }

void LaunchStore::report_end(int rank, const std::string& how) {
  const auto call = [&](c10d::TCPStore& store) {
    store.set(text("segcore/ended/", rank), std::vector<uint8_t>(how.begin(), how.end()));
    return 0;
  };
  connection_->use(call, 0);
}

int LaunchStore::leave() {
  return connection_->use(
      [](c10d::TCPStore& store) { return static_cast<int>(store.add(kLaunchersDone, 1)); }, 0);
}

int LaunchStore::launchers_done() {
  return connection_->use(
      [](c10d::TCPStore& store) { return static_cast<int>(store.add(kLaunchersDone, 0)); }, 0);
}

}  // namespace seg
