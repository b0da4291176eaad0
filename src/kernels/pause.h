// A hint to the core that the calling thread looks at a value again and again.
#pragma once

namespace moesim {

inline void pause_thread() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace moesim
