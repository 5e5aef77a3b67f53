/// Finds out which process of a run was lost, and lets no process wait for it.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runners/log/flight_record.hpp"

namespace seg {

struct Rendezvous;

/// Every process writes a heartbeat into the store of the run once a second, with the place where
/// it is, and reads that of the next rank. Who is silent for `patience_s`, has ended by an error or
/// was left behind in a collective is named in the store; the first name stays. A process that
/// knows of a lost peer and cannot come out of a collective is ended with exit code 22.
///
/// Its threads have a connection of their own to the store, as a call of another thread may hold
/// the run's for as long as it waits.
class PeerWatch {
 public:
  /// Writes the first heartbeat. \param prefix  of the keys in the store.
  PeerWatch(const Rendezvous& place, const std::string& prefix);
  ~PeerWatch();
  PeerWatch(const PeerWatch&) = delete;
  PeerWatch& operator=(const PeerWatch&) = delete;

  /// The ranks that have not come yet.
  std::vector<int> absent() const;
  /// Begins to watch, once every process has written its first heartbeat.
  void start();
  /// Who was lost, after an exchange with the others has failed. Waits some seconds until one of
  /// the processes knows.
  LostPeer find_lost();
  /// Tells the others why this process ends.
  void announce_end(const std::string& why);

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;  ///< shared with threads that a silent store may hold
};

/// What a process of this rank says when it ends because of a lost peer.
std::string lost_message(const LostPeer& lost, int rank);

}  // namespace seg
