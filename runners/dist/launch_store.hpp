/// The store by which processes of a run meet, held by the program that starts them.
#pragma once
#include <memory>
#include <string>

namespace seg {

/// Lives in the launcher and not in the first process, so that it outlives every process of the run
/// and its port is taken before any of them starts. It has a thread of its own.
class LaunchStore {
 public:
  /// Opens it.
  /// \param port  0: any free one.
  /// \throws UsageError where another program has the port.
  static LaunchStore serve(int port);
  /// Reaches that of another machine. Nothing is sent before the first call.
  static LaunchStore at(std::string host, int port);
  ~LaunchStore();
  LaunchStore(LaunchStore&&) noexcept;
  LaunchStore& operator=(LaunchStore&&) = delete;

  int port() const;
  /// Tells the other processes how one ended ("killed by SIGKILL"), under the key
  /// segcore/ended/<rank>. A store that cannot be reached is no error: its machine is lost, which
  /// the processes find out themselves.
  void report_end(int rank, const std::string& how);
  /// Counts this launcher among those that are done.
  /// \return how many are; 0 where the store cannot be reached.
  int leave();
  int launchers_done();

 private:
  struct Connection;
  explicit LaunchStore(std::unique_ptr<Connection> connection);
  std::unique_ptr<Connection> connection_;
};

}  // namespace seg
