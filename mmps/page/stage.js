// A picture with outlined persons. A click or a drawn box is told as two corners in the picture's own pixels.
export default {
  template: `
    <div v-if="src" class="stage" :class="{ drawing }"
         @pointerdown="begin" @pointermove="move" @pointerup="end" @pointercancel="cancel">
      <img :src="src" :alt="alt" :width="width" :height="height" draggable="false" />
      <svg :viewBox="'0 0 ' + width + ' ' + height" aria-hidden="true">
        <rect v-for="(each, number) in outlines" :key="number" :class="each.kind"
              :x="each.box[0]" :y="each.box[1]" :width="each.box[2]" :height="each.box[3]" rx="4">
          <title>{{ each.label }}</title>
        </rect>
        <rect v-if="band" class="band" :x="band[0]" :y="band[1]" :width="band[2]" :height="band[3]" />
      </svg>
    </div>`,
  props: { src: String, alt: String, width: Number, height: Number, outlines: Array, drawing: Boolean },
  emits: ["choose"],
  data: () => ({ start: null, band: null }),
  methods: {
    point(e) {
      const place = this.$el.getBoundingClientRect();
      return [((e.clientX - place.left) / place.width) * this.width, ((e.clientY - place.top) / place.height) * this.height];
    },
    begin(e) {
      if (e.button !== 0) return;
      this.$el.setPointerCapture(e.pointerId);
      this.start = this.point(e);
    },
    move(e) {
      if (!this.start) return;
      const [[x1, y1], [x2, y2]] = [this.start, this.point(e)];
      this.band = [Math.min(x1, x2), Math.min(y1, y2), Math.abs(x2 - x1), Math.abs(y2 - y1)];
    },
    end(e) {
      if (this.start) this.$emit("choose", { start: this.start, end: this.point(e) });
      this.cancel();
    },
    cancel() {
      this.start = this.band = null;
    },
  },
};
