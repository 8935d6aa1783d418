/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As classify_words.c, for languages that put no spaces between words: each place of a text may be
 * the beginning of one, and the longest that fits is meant. So words are of two signs at least, and
 * the table is by the first. Traditional and simplified forms and Japanese ones stand side by side;
 * which language a word is of does not matter here.
 */
#include "gateway/classify_signs.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

static const struct {
	enum classify_kind kind;
	const char *words;
} lists[] = {
	{CLASSIFY_REASONING, "分析 设计 設計 评估 評估 评价 论证 論證 优化 優化 最优 最優 权衡 "
			     "權衡 推理 推断 假设 假設 "
			     "策略 架构 架構 诊断 診斷 调试 逻辑 邏輯 逐步 一步一步 每一步 反例 "
			     "反驳 算法 演算法 "
			     "利弊 可行性 风险 風險 依据 死锁 "
			     "評価 論証 論じ 最適 トレードオフ 推論 仮説 戦略 アルゴリズム 診断 "
			     "論理 検討 解析 根拠 "
			     "考察 各段階 リスク 整合性 反論 デッドロック 長所と短所"},
	{CLASSIFY_PROOF, "证明 證明 推导 推導 証明 導出 導き"},
	{CLASSIFY_TASK, "解释 解釋 说明 說明 总结 總結 概括 摘要 比较 比較 写一 寫一 写出 寫出 "
			"写个 请写 請寫 介绍 "
			"介紹 描述 列出 改写 改寫 讨论 討論 给出 給出 帮我 幫我 制定 编写 編寫 "
			"教我 整理 区别 "
			"優缺點 优缺点 为什么 為什麼 如何 找出 "
			"説明 要約 書いて 書き まとめ 紹介 教えて 作成 作って 述べ 示して 挙げ "
			"考えて 違い なぜ "
			"方法 特定し"},
	{CLASSIFY_CONSTRAINT, "必须 必須 不要 不能 不得 至少 最多 每个 每個 以内 以內 不超过 "
			      "不超過 要求 语气 語氣 限制 "
			      "包括 考虑 考慮 同时 同時 只用 大约 "
			      "必ず ないで 以内 以上 以下 少なくとも それぞれ 条件 制限 含め 丁寧 "
			      "全ての 行で 文字で"},
	{CLASSIFY_CODE, "代码 代碼 程式 函数 函數 程序 数据库 資料庫 编译 編譯 接口 变量 變數 线程 "
			"執行緒 循环 迴圈 "
			"数组 陣列 链表 脚本 腳本 查询 查詢 缓存 "
			"コード 関数 プログラム データベース 変数 スレッド ループ 配列 スクリプト "
			"クエリ バグ "
			"リストから"},
	{CLASSIFY_MATHEMATICS,
		"方程 公式 概率 機率 积分 積分 导数 導數 矩阵 矩陣 素数 質數 无理数 無理數 定理 "
		"几何 幾何 "
		"向量 收敛 收斂 期望 方差 根号 根號 整数 整數 无穷 無窮 微分 "
		"方程式 確率 行列 無理数 ベクトル 収束 期待値 分散 数列 計算量 無限"},
	{CLASSIFY_EASY, "你好 您好 早上好 晚上好 谢谢 謝謝 翻译 翻譯 是谁 是誰 哪里 哪裡 哪个 哪個 "
			"哪一 多少 几个 "
			"幾個 什么 什麼 反义词 同义词 首都 "
			"こんにちは こんばんは おはよう ありがとう 何です 何人 "
			"誰です どこです "
			"いつです いくつ いくら 訳して 翻訳 首都"},
};

enum { MAX_WORDS = 512, N_CHAINS = 1024, SIGN = 3, NO_WORD = UINT16_MAX };

static struct {
	const char *text;
	uint8_t len, kind;
	uint16_t next;
} words[MAX_WORDS];
static uint16_t chains[N_CHAINS];
static size_t n_words;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* By the first sign: three bytes. */
static uint16_t *chain(const char *text)
{
	uint32_t sign = 0;
	for (int i = 0; i < SIGN; i++)
		sign = sign << 8 | (unsigned char)text[i];
	return &chains[(sign * UINT32_C(2654435761)) >> 22];
}

static void make_table(void)
{
	for (size_t i = 0; i < N_CHAINS; i++)
		chains[i] = NO_WORD;
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
		for (const char *p = lists[i].words; *p;) {
			size_t len = strcspn(p, " ");
			assert(len >= 2 * SIGN && len < 64 && n_words < MAX_WORDS);
			uint16_t *first = chain(p);
			words[n_words].text = p;
			words[n_words].len = (uint8_t)len;
			words[n_words].kind = (uint8_t)lists[i].kind;
			words[n_words].next = *first;
			*first = (uint16_t)n_words++;
			p += len + strspn(p + len, " ");
		}
}

enum classify_kind classify_signs_find(const char *text, size_t n, size_t *len)
{
	enum classify_kind kind = N_CLASSIFY_KINDS;
	*len = 0;
	pthread_once(&once, make_table);
	if (n < 2 * SIGN)
		return kind;
	for (uint16_t i = *chain(text); i != NO_WORD; i = words[i].next) {
		if (words[i].len > n || words[i].len <= *len ||
			memcmp(words[i].text, text, words[i].len) != 0)
			continue;
		*len = words[i].len;
		kind = (enum classify_kind)words[i].kind;
	}
	return kind;
}
