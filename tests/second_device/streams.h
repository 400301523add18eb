// Streams that are as late as they may be, and a detector of races between them.
//
// What is queued on a stream happens after what the stream was told to wait for, and nothing else is certain. So a copy is
// done only when what waited for it goes on; and whether an access is ordered after all earlier ones that it
// conflicts with is decided by vector clocks, not by what happened to be fast. A race is found whenever the program has it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

// How much of the work of each stream has happened.
struct Clock {
  std::vector<int64_t> of_stream;

  int64_t operator[](size_t stream) const { return stream < of_stream.size() ? of_stream[stream] : 0; }

  void raise(size_t stream, int64_t to) {
    of_stream.resize(std::max(of_stream.size(), stream + 1));
    of_stream[stream] = std::max(of_stream[stream], to);
  }

  void join(const Clock& other) {
    for (size_t stream = 0; stream < other.of_stream.size(); stream++) {
      raise(stream, other[stream]);
    }
  }

  // A stream that has done less than in `past`, or -1.
  int64_t behind(const Clock& past) const {
    for (size_t stream = 0; stream < past.of_stream.size(); stream++) {
      if ((*this)[stream] < past[stream]) {
        return stream;
      }
    }
    return -1;
  }
};

// A piece of the device's memory. It begins as NaN, which 0xff is in the common formats of floats; a large piece does not,
// so that a benchmark can have more of them than the host has memory, if it does not use it.
struct Memory {
  void* data;
  int64_t bytes;
  size_t stream;  // whose allocations may use it again
  Clock written, read;
  Clock before;  // when the allocator may have had it from somebody else, the end of that work
  std::set<size_t> recorded{};

  Memory(size_t bytes, size_t stream) : data(std::malloc(bytes)), bytes(bytes), stream(stream) {
    if (bytes < 32 << 20) {
      std::memset(data, 0xff, bytes);
    }
  }
  Memory(const Memory&) = delete;
  ~Memory() { std::free(data); }
};

class Streams {
 public:
  size_t add() {
    std::lock_guard lock(mutex_);
    clocks_.emplace_back();
    return clocks_.size() - 1;
  }

  // Memory for work on a stream. As CUDA's allocator does, this may hand out what was freed by any earlier allocation for
  // the same stream, though work on other streams goes on with it.
  std::shared_ptr<Memory> allocate(size_t bytes, size_t stream) {
    auto memory = std::make_shared<Memory>(bytes, stream);
    std::lock_guard lock(mutex_);
    memory->before = freed_[stream];
    return memory;
  }

  void free(const Memory& memory) {
    std::lock_guard lock(mutex_);
    Clock last = memory.before;
    last.join(memory.written);
    last.join(memory.read);
    for (size_t stream : memory.recorded) {  // the allocator waits for these
      if (stream < last.of_stream.size()) {
        last.of_stream[stream] = 0;
      }
    }
    freed_[memory.stream].join(last);
  }

  void record(Memory& memory, size_t stream) {
    std::lock_guard lock(mutex_);
    memory.recorded.insert(stream);
  }

  // The next work on a stream.
  void begin(size_t stream) {
    std::lock_guard lock(mutex_);
    clocks_[stream].join(host_);
    clocks_[stream].raise(stream, clocks_[stream][stream] + 1);
  }

  // That it is done at once, so that all it waits for has to be done before.
  void run(size_t stream, bool is_kernel) {
    finish(event(stream));
    std::lock_guard lock(mutex_);
    for (auto& copy : queued_) {  // what is left came earlier, but is not ordered before this
      copies_beside_kernels_ += is_kernel && !copy.beside_kernel;
      copy.beside_kernel |= is_kernel;
    }
  }

  // That it is a copy, which is done when what has waited for it goes on.
  void queue(size_t stream, std::function<void()> copy) {
    std::lock_guard lock(mutex_);
    queued_.push_back({stream, clocks_[stream][stream], false, std::move(copy)});
    copies_++;
  }

  // That the current work of a stream reads or writes memory.
  void access(Memory& memory, size_t stream, bool writes, const std::string& what) {
    std::lock_guard lock(mutex_);
    const Clock& now = clocks_[stream];
    const auto who = what + " on stream " + std::to_string(stream) + (writes ? " writes" : " reads") + " memory that ";
    if (auto other = now.behind(memory.written); other >= 0) {
      violations_[who + "stream " + std::to_string(other) + " may still be writing"]++;
    }
    if (auto other = now.behind(memory.read); writes && other >= 0) {
      violations_[who + "stream " + std::to_string(other) + " may still be reading"]++;
    }
    if (auto other = now.behind(memory.before); writes && other >= 0) {
      violations_[who + "was freed while stream " + std::to_string(other) + " may still be using it"]++;
    }
    (writes ? memory.written : memory.read).raise(stream, now[stream]);
  }

  Clock event(size_t stream) {
    std::lock_guard lock(mutex_);
    Clock now = clocks_[stream];
    now.join(host_);
    return now;
  }

  void wait(size_t stream, const Clock& event) {
    std::lock_guard lock(mutex_);
    clocks_[stream].join(event);
  }

  void host_wait(const Clock& event) {
    {
      std::lock_guard lock(mutex_);
      host_.join(event);
    }
    finish(event);
  }

  Clock all() {
    Clock all;
    for (size_t stream = 0; stream < clocks_.size(); stream++) {
      all.join(event(stream));
    }
    return all;
  }

  std::map<std::string, int64_t> take_violations() {
    std::lock_guard lock(mutex_);
    return std::exchange(violations_, {});
  }

  int64_t copies() const { return copies_; }
  int64_t copies_beside_kernels() const { return copies_beside_kernels_; }

 private:
  struct Copy {
    size_t stream;
    int64_t time;
    bool beside_kernel;
    std::function<void()> run;
  };

  void finish(const Clock& event) {
    std::vector<Copy> due;
    {
      std::lock_guard lock(mutex_);
      const auto rest = std::stable_partition(
          queued_.begin(), queued_.end(), [&](const Copy& copy) { return copy.time > event[copy.stream]; });
      due.assign(std::make_move_iterator(rest), std::make_move_iterator(queued_.end()));
      queued_.erase(rest, queued_.end());
    }
    for (auto& copy : due) {
      copy.run();
    }
  }

  std::mutex mutex_;
  std::vector<Clock> clocks_{1};
  Clock host_;
  std::map<size_t, Clock> freed_;  // for each stream the last work with what its allocations have freed
  std::vector<Copy> queued_;
  int64_t copies_ = 0, copies_beside_kernels_ = 0;
  std::map<std::string, int64_t> violations_;
};
