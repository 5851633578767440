// llama.cpp as a child of `cargo xtask bench engine --peer llama.cpp`.
//
// Usage: llama_driver MODEL.gguf THREADS repack|plain flash|noflash
//
// It loads the model once, says so in one line of JSON, and then answers each line of standard input with one line:
//   single PROMPT STEPS      one sequence: reads PROMPT tokens at once, then writes STEPS tokens, each the most probable
//   batch COUNT PROMPT STEPS the same for COUNT sequences side by side; only the writing is timed
//   memory                   resident memory, the most of it so far and now
// Between two lines no thread runs. xtask/src/engine_bench/protocol.rs has the other end.

#include "ggml-cpu.h"
#include "llama.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

/// Most tokens that one pass of the model takes: llama.cpp's default.
constexpr int BLOCK_TOKENS = 512;
/// Sequences of a batch begin with different tokens.
constexpr int SEQUENCE_STRIDE = 977;
/// Tokens that a reply repeats, so that it can be seen that engines wrote about the same.
constexpr size_t SHOWN_TOKENS = 8;

[[noreturn]] void fail(const std::string & what) {
    // The texts are our own: nothing in them needs escaping.
    std::printf("{\"error\": \"%s\"}\n", what.c_str());
    std::fflush(stdout);
    std::exit(1);
}

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Standard output is for replies: of the library's own output only errors are shown, on standard error.
void log_errors(ggml_log_level level, const char * text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR) {
        std::fputs(text, stderr);
    }
}

/// A field of /proc/self/status, in bytes.
long long status_bytes(const char * field) {
    std::ifstream status("/proc/self/status");
    std::string line;
    while (std::getline(status, line)) {
        if (line.rfind(field, 0) == 0) {
            return std::atoll(line.c_str() + std::strlen(field)) * 1024;
        }
    }
    return 0;
}

/// The model, and contexts for the shapes that were asked for: they stay, so that a later run finds their memory mapped.
class Engine {
public:
    Engine(const std::string & path, int threads, bool repack, bool flash) : threads_(threads), flash_(flash) {
        llama_backend_init();
        llama_model_params params = llama_model_default_params();
        params.use_extra_bufts = repack;
        params.n_gpu_layers = 0;
        model_ = llama_model_load_from_file(path.c_str(), params);
        if (model_ == nullptr) {
            fail("llama.cpp cannot load the model");
        }
        vocabulary_ = llama_vocab_n_tokens(llama_model_get_vocab(model_));
        ggml_threadpool_params pool = ggml_threadpool_params_default(threads);
        pool_ = ggml_threadpool_new(&pool);
        if (pool_ == nullptr) {
            fail("llama.cpp cannot start its threads");
        }
    }

    int vocabulary() const { return vocabulary_; }

    /// One sequence.
    void single(int prompt, int steps) {
        llama_context * context = context_for(1, prompt + steps);
        llama_batch batch = llama_batch_init(prompt, 0, 1);
        fill_prompts(batch, 1, prompt);
        ggml_threadpool_resume(pool_);

        const auto start = Clock::now();
        llama_memory_clear(llama_get_memory(context), false);
        decode(context, batch);
        const double prefill = seconds_since(start);
        std::vector<llama_token> next = { most_probable(context, batch.n_tokens - 1) };
        const double first_token = seconds_since(start);

        std::vector<llama_token> written;
        const double decoding = write(context, batch, next, prompt, steps, written);
        ggml_threadpool_pause(pool_);
        llama_batch_free(batch);
        std::printf("{\"prefill_s\": %.6f, \"first_token_s\": %.6f, \"decode_s\": %.6f, \"tokens\": [", prefill,
                    first_token, decoding);
        for (size_t i = 0; i < std::min(SHOWN_TOKENS, written.size()); i++) {
            std::printf("%s%d", i == 0 ? "" : ", ", written[i]);
        }
        std::printf("]}\n");
    }

    /// Several sequences side by side.
    void batch(int count, int prompt, int steps) {
        llama_context * context = context_for(count, prompt + steps);
        llama_batch batch = llama_batch_init(count * prompt, 0, 1);
        fill_prompts(batch, count, prompt);
        ggml_threadpool_resume(pool_);

        llama_memory_clear(llama_get_memory(context), false);
        decode(context, batch);
        std::vector<llama_token> next(count);
        for (int sequence = 0; sequence < count; sequence++) {
            next[sequence] = most_probable(context, (sequence + 1) * prompt - 1);
        }
        std::vector<llama_token> written;
        const double decoding = write(context, batch, next, prompt, steps, written);
        ggml_threadpool_pause(pool_);
        llama_batch_free(batch);
        std::printf("{\"decode_s\": %.6f}\n", decoding);
    }

private:
    llama_context * context_for(int sequences, int capacity) {
        llama_context *& context = contexts_[{ sequences, capacity }];
        if (context != nullptr) {
            return context;
        }
        llama_context_params params = llama_context_default_params();
        params.n_ctx = sequences * capacity;
        params.n_seq_max = sequences;
        params.n_batch = sequences * capacity;
        params.n_ubatch = BLOCK_TOKENS;
        params.n_threads = threads_;
        params.n_threads_batch = threads_;
        params.flash_attn_type = flash_ ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
        context = llama_init_from_model(model_, params);
        if (context == nullptr) {
            fail("llama.cpp cannot make a context");
        }
        llama_attach_threadpool(context, pool_, pool_);
        return context;
    }

    /// Any tokens do: the work does not depend on which they are. Of each prompt the last one asks for logits.
    void fill_prompts(llama_batch & batch, int count, int prompt) const {
        batch.n_tokens = 0;
        for (int sequence = 0; sequence < count; sequence++) {
            for (int position = 0; position < prompt; position++) {
                const long long token = position * 31LL + sequence * static_cast<long long>(SEQUENCE_STRIDE);
                add(batch, static_cast<llama_token>(token % vocabulary_), position, sequence, position == prompt - 1);
            }
        }
    }

    static void add(llama_batch & batch, llama_token token, int position, int sequence, bool logits) {
        const int index = batch.n_tokens++;
        batch.token[index] = token;
        batch.pos[index] = position;
        batch.n_seq_id[index] = 1;
        batch.seq_id[index][0] = sequence;
        batch.logits[index] = logits;
    }

    static void decode(llama_context * context, llama_batch batch) {
        if (llama_decode(context, batch) != 0) {
            fail("llama_decode failed");
        }
        llama_synchronize(context);
    }

    llama_token most_probable(llama_context * context, int index) const {
        const float * logits = llama_get_logits_ith(context, index);
        if (logits == nullptr) {
            fail("llama.cpp has no logits");
        }
        return static_cast<llama_token>(std::max_element(logits, logits + vocabulary_) - logits);
    }

    /// `steps` passes with one token of each sequence; the seconds that they took.
    double write(llama_context * context, llama_batch & batch, std::vector<llama_token> & next, int position, int steps,
                 std::vector<llama_token> & written) const {
        const int count = static_cast<int>(next.size());
        const auto start = Clock::now();
        for (int step = 0; step < steps; step++) {
            batch.n_tokens = 0;
            for (int sequence = 0; sequence < count; sequence++) {
                add(batch, next[sequence], position + step, sequence, true);
            }
            decode(context, batch);
            written.push_back(next[0]);
            for (int sequence = 0; sequence < count; sequence++) {
                next[sequence] = most_probable(context, sequence);
            }
        }
        return seconds_since(start);
    }

    int threads_;
    bool flash_;
    int vocabulary_ = 0;
    llama_model * model_ = nullptr;
    ggml_threadpool_t pool_ = nullptr;
    std::map<std::pair<int, int>, llama_context *> contexts_;
};

bool answer(Engine & engine, const std::string & line) {
    std::istringstream words(line);
    std::string command;
    int count = 0, prompt = 0, steps = 0;
    words >> command;
    if (command == "single" && words >> prompt >> steps && prompt > 0 && steps > 0) {
        engine.single(prompt, steps);
    } else if (command == "batch" && words >> count >> prompt >> steps && count > 0 && prompt > 0 && steps > 0) {
        engine.batch(count, prompt, steps);
    } else if (command == "memory") {
        std::printf("{\"peak_bytes\": %lld, \"resident_bytes\": %lld}\n", status_bytes("VmHWM:"),
                    status_bytes("VmRSS:"));
    } else {
        return false;
    }
    return true;
}

} // namespace

int main(int argc, char ** argv) {
    if (argc != 5) {
        fail("usage: llama_driver MODEL.gguf THREADS repack|plain flash|noflash");
    }
    const int threads = std::atoi(argv[2]);
    if (threads < 1) {
        fail("THREADS is a number from 1");
    }
    llama_log_set(log_errors, nullptr);
    const auto start = Clock::now();
    Engine engine(argv[1], threads, std::strcmp(argv[3], "repack") == 0, std::strcmp(argv[4], "flash") == 0);
    std::printf("{\"ready\": true, \"load_s\": %.3f, \"vocabulary\": %d, \"features\": \"%s\"}\n",
                seconds_since(start), engine.vocabulary(), llama_print_system_info());
    std::fflush(stdout);
    std::string line;
    while (std::getline(std::cin, line)) {
        if (!answer(engine, line)) {
            fail("a line that is no command");
        }
        std::fflush(stdout);
    }
    // The process ends here: what it holds need not be given back piece by piece.
    std::_Exit(0);
}
